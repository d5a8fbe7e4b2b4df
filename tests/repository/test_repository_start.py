"""The program's first moments: Ctrl-C at any import, and too little memory to load libraries."""

import subprocess
import sys

import pytest

INTERRUPTED = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell in the background has it ignored
from blocknerf.cli.main import as_program

class Interrupting:
    left = {count}

    def find_spec(self, name, path=None, target=None):
        Interrupting.left -= 1
        if Interrupting.left == 0:
            os.kill(os.getpid(), signal.{signal})

sys.meta_path.insert(0, Interrupting())

def command():
    import blocknerf.blocks.output
    import blocknerf.scene.colmap_module
    sys.exit(7)

as_program(command)
"""


def fresh(code: str, *limits: str) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-c", code]
    limited = ["bash", "-c", "; ".join((*limits, 'exec "$@"')), "bash", *program] if limits else program
    return subprocess.run(limited, capture_output=True, text=True, timeout=120, check=False)


# in the program's own first imports, rich, numpy, torch and what follows; above them all, never
@pytest.mark.parametrize(
    ("count", "signal"),
    [(1, "SIGINT"), (3, "SIGTERM"), (12, "SIGINT"), (80, "SIGINT"), (250, "SIGTERM"), (900, "SIGINT")],
)
def test_being_stopped_at_any_import_is_one_sentence(count, signal):
    done = fresh(INTERRUPTED.format(count=count, signal=signal))
    assert done.stderr.startswith("Stopped."), done.stderr[-2000:]
    assert (done.returncode, len(done.stderr.splitlines())) == (130, 1)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(1, 17))
def test_being_stopped_at_every_import_is_one_sentence(first):
    for count in range(first, 1600, 16):
        done = fresh(INTERRUPTED.format(count=count, signal="SIGINT"))
        if done.returncode == 7:
            break
        assert (done.returncode, len(done.stderr.splitlines())) == (130, 1), (count, done.stderr[-2000:])


@pytest.mark.parametrize("megabytes", [60, 130, 300, 600, 900, 1200])
def test_too_little_memory_for_libraries_is_one_sentence(megabytes):
    code = "import sys; sys.argv[1:] = ['plan', '--data-root', '/nowhere']; import blocknerf.__main__"
    done = fresh(code, f"ulimit -v {megabytes * 1000}")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "memory" in done.stderr or "ulimit -v" in done.stderr
