"""Standard output and error: read to the end, closed by the reader, closed before the start, or full."""

import os
import subprocess
import sys
from signal import SIGPIPE

import pytest

PRINTING = (["--help"], ["plan", "--help"], ["config", "show"], ["config", "schema"], ["completion", "zsh"])


def shell(line: str, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """Runs a line of bash in which `blocknerf` is this program with `arguments`."""
    blocknerf = f'"{sys.executable}" -m blocknerf {" ".join(arguments)}'
    return subprocess.run(
        ["bash", "-c", line.replace("blocknerf", blocknerf)], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("arguments", PRINTING)
def test_who_wants_no_more_of_the_output_ends_the_program_in_silence(arguments):
    done = shell("blocknerf | true; echo ${PIPESTATUS[0]}", arguments)
    assert (done.stdout, done.stderr) == (f"{128 + SIGPIPE}\n", "")


def test_the_first_lines_come_through():
    done = shell("blocknerf | head -n 1; echo ${PIPESTATUS[0]}", ["config", "schema"])
    assert done.stdout.splitlines()[0] == "{"
    assert done.stdout.splitlines()[1] in ("0", str(128 + SIGPIPE))
    assert done.stderr == ""


def test_a_full_disk_behind_the_output_is_one_sentence():
    done = shell("blocknerf > /dev/full", ["config", "show"])
    assert done.returncode == 2
    assert (
        done.stderr
        == "blocknerf: Standard output: No space left on device; free some space or choose another folder.\n"
    )


@pytest.mark.parametrize("closed", ["2>&-", "2>/dev/full", "2> >(true)", "2>&- >&- <&-"])
def test_messages_that_nobody_can_hear_change_nothing_else(closed):
    done = shell(f"blocknerf {closed}", ["config", "check", "--config", "/nowhere.yaml"])
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "")


def test_no_file_gets_the_number_of_a_closed_stream():
    code = """
import os
from blocknerf.cli.main import run
def command():
    with open(os.devnull) as file:
        os._exit(file.fileno())
run(command)
"""
    done = subprocess.run(
        ["bash", "-c", f"'{sys.executable}' -c '{code}' <&- >&- 2>&-"], env={**os.environ}, timeout=60, check=False
    )
    assert done.returncode > 2


def test_words_that_the_terminal_cannot_show_are_escaped():
    code = "import sys; from blocknerf.cli.main import run; run(lambda: sys.stdout.write('Straße') and None)"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "Stra\\xdfe")
