"""The Tab key: a script that bash takes, and what it offers there."""

import contextlib
import io
import shlex
import subprocess
from pathlib import Path

import pytest

from blocknerf.cli.commands import load_commands
from blocknerf.cli.main import main
from blocknerf.core.config.config import Config
from blocknerf.core.config.keys import known_keys


@pytest.fixture(scope="module")
def script(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("completion") / "blocknerf"
    path.write_text(printed("bash"))
    return path


def printed(shell: str) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as output:
        main(["completion", shell])
    return output.getvalue()


def offered(script: Path, line: str, folder: Path) -> list[str]:
    """What bash is offered at the end of a line; nothing: it completes names of files."""
    words = line.split(" ")
    code = f"""
compopt() {{ :; }}  # bash has it while it completes
source {shlex.quote(str(script))}
COMP_WORDS=({" ".join(map(shlex.quote, words))}) COMP_CWORD={len(words) - 1}
_blocknerf && [[ ${{#COMPREPLY[@]}} == 0 ]] || printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(["bash", "-c", code], cwd=folder, capture_output=True, text=True, timeout=120, check=True)
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_bash_takes_the_script(script):
    done = subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("blocknerf tr", ["train"]),
        ("blocknerf export me", ["mesh"]),
        ("blocknerf export mesh out --vo", ["--voxel"]),
        ("blocknerf align --", ["--data-root", "--device", "--help", "--root"]),
        ("blocknerf synth --preset st", ["street", "street_small"]),
        ("blocknerf config s", ["schema", "show"]),
        ("blocknerf completion ba", ["bash"]),
        ("blocknerf train training.max_m", ["training.max_minutes="]),
        ("blocknerf plan --data-root scene block_manager.block_s", ["block_manager.block_size="]),
        ("blocknerf train --data-root tr", []),
        ("blocknerf train --config co", []),
        ("blocknerf evaluate ", []),
        ("blocknerf render out --exposure ", []),
    ],
)
def test_what_is_offered(script, tmp_path, line, words):
    for name in ("train", "configs", "street view"):  # names of files are left to bash, which knows how to quote them
        (tmp_path / name).mkdir()
    assert sorted(offered(script, line, tmp_path)) == words


def test_every_command_and_every_key_is_offered(script, tmp_path):
    assert set(offered(script, "blocknerf ", tmp_path)) == set(load_commands())
    keys = offered(script, "blocknerf config check ", tmp_path)
    assert {key.partition(".")[0] for key in keys if key.endswith("=")} == set(Config.model_fields)
    assert {key.removesuffix("=") for key in keys} >= {"block_nerf.num_layers", "block_nerf.hash_grid.num_levels"}
    assert {key.removesuffix("=") for key in keys if key.endswith("=")} <= set(known_keys(Config))


def test_other_shells_have_one_too():
    assert printed("zsh").startswith("#compdef blocknerf")
    assert "complete" in printed("fish")
