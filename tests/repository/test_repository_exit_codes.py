"""What the shell sees: 0, 2 with one clear sentence, 130 for Ctrl-C; a defect keeps its traceback."""

import subprocess
import sys

import pytest

from blocknerf.cli.main import main, run
from blocknerf.core.errors import UserError


def raising(error: BaseException):
    def command() -> None:
        raise error

    return command


def test_a_command_that_works_returns():
    done = []
    run(lambda: done.append(1))
    assert done == [1]


@pytest.mark.parametrize(
    "message",
    [
        "There is no plan at out/plan.json.",
        "The scene lies in /data/[2024] street [noon], which is no folder.",
        "Allowed: [/colmap], [nerfstudio].",
        "A long sentence " + "that must not be broken " * 19 + "into lines.",
    ],
)
def test_what_a_user_can_mend_is_one_whole_sentence_and_exit_code_2(capsys, message):
    with pytest.raises(SystemExit) as exit:
        run(raising(UserError(message)))
    assert exit.value.code == 2
    output = capsys.readouterr()
    assert output.err == f"blocknerf: {message}\n"
    assert output.out == ""


def test_control_c_is_exit_code_130(capsys):
    with pytest.raises(SystemExit) as exit:
        run(raising(KeyboardInterrupt()))
    assert exit.value.code == 130
    assert "Stopped." in capsys.readouterr().err


def test_a_program_that_is_told_to_end_says_so_and_prints_no_stack():
    code = """
import os, signal, time
from blocknerf.cli.main import run
def command():
    from blocknerf.scene.colmap_module import pycolmap  # whose logging would print one
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(30)
run(command)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 130
    assert done.stderr.startswith("Stopped.")
    assert len(done.stderr.splitlines()) == 1


def test_a_defect_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        run(raising(ZeroDivisionError()))


def test_underscores_and_hyphens_are_the_same_and_a_missing_scene_is_named(capsys, tmp_path):
    for flag in ("--data-root", "--data_root"):
        with pytest.raises(SystemExit) as exit:
            main(["plan", flag, str(tmp_path / "absent"), "--output-dir", str(tmp_path / "out")])
        assert exit.value.code == 2
        assert "absent" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
