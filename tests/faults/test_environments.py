"""Machines and containers as people have them: each command works there, or says in a sentence what it needs."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import blocknerf
from tests.support.room import write_room
from tests.support.tiny_run import TINY

SOURCES = Path(blocknerf.__file__).parent
READ_ONLY_SOURCES = f'mount --bind "{SOURCES}" "{SOURCES}" && mount -o remount,ro,bind "{SOURCES}"'
NO_HOME = {"HOME": "/proc/no_home"}
PLAIN_LOCALE = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_room(tmp_path_factory.mktemp("room"), images=8)


def may_mount() -> bool:
    done = subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False)
    return done.returncode == 0


needs_mounts = pytest.mark.skipif(not may_mount(), reason="only root may mount, in a namespace of its own")


def run(before: str, *arguments: str, **environment: str | None) -> subprocess.CompletedProcess[str]:
    """`blocknerf` with these arguments after the line `before` of bash, in a namespace of its own where that mounts."""
    known = {name: value for name, value in {**os.environ, **environment}.items() if value is not None}
    line = f'{before or ":"} && exec "$@"'
    shell = ["unshare", "-m", "bash"] if "mount" in before else ["bash"]
    program = [*shell, "-c", line, "bash", sys.executable, "-m", "blocknerf", *arguments]
    return subprocess.run(program, env=known, capture_output=True, text=True, timeout=600, check=False)


def train(room: Path, out: Path, before: str = "", *more: str, **environment: str | None):
    where = ("--data-root", str(room), "--output-dir", str(out))
    return run(before, "train", *where, *TINY, *more, **environment)


def works(done: subprocess.CompletedProcess[str]) -> bool:
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Traceback" not in done.stderr
    return True


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "environment"),
    [
        ("ulimit -n 64", {}),
        ("", {"TMPDIR": "/no_such_folder"}),
        ("", {"HOME": None}),
        ("", NO_HOME),
        ("", PLAIN_LOCALE),
        ("", {"OMP_NUM_THREADS": "0"}),
        pytest.param(READ_ONLY_SOURCES, NO_HOME, marks=needs_mounts),
        pytest.param("mount -t tmpfs -o size=64k none /dev/shm", {}, marks=needs_mounts),
    ],
)
def test_training_works(room, tmp_path, before, environment):
    out = tmp_path / "straße"
    assert works(train(room, out, before, **environment))
    assert (out / "city.json").is_file()


@pytest.mark.slow
@needs_mounts
def test_workers_need_no_shared_memory(room, tmp_path):
    several = ("block_manager.max_blocks=9", "block_manager.block_size=2", "--jobs", "2")
    assert works(train(room, tmp_path, "mount -t tmpfs -o size=64k none /dev/shm", *several))


@pytest.mark.slow
@needs_mounts
def test_nothing_to_write_compiled_code_to_is_one_sentence(room, tmp_path):
    done = train(room, tmp_path, READ_ONLY_SOURCES, **NO_HOME, BLOCKNERF_CACHE_DIR="/proc/no_folder")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "Set BLOCKNERF_CACHE_DIR to a folder that can be written to." in done.stderr


@pytest.mark.slow
@needs_mounts
@pytest.mark.parametrize("kind", ["points", "mesh"])
@pytest.mark.parametrize(
    ("options", "message"), [("size=64k", "No space left on device; free some space"), ("ro", "Read-only file system")]
)
def test_maps_that_find_no_room_name_the_file_that_was_asked_for(room, tmp_path, kind, options, message):
    out, full = tmp_path / "out", tmp_path / "full"
    full.mkdir()
    assert works(train(room, out))
    wanted = full / "city.ply"
    done = run(f"mount -t tmpfs -o {options} none '{full}'", "export", kind, str(out), "--out", str(wanted))
    assert done.returncode == 2, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert message in last
    assert done.stderr.count(message) == 1
    assert str(full) in last
    assert ".tmp" not in last


def test_durations_follow_a_clock_that_never_jumps():
    """The time of day is asked for by the lock alone, which tells people since when it is held."""
    asks = re.compile(r"\btime\.time\(|\btime_ns\(|datetime\.now\(|\.utcnow\(|date\.today\(")
    found = {path.relative_to(SOURCES).as_posix() for path in SOURCES.rglob("*.py") if asks.search(path.read_text())}
    assert found == {"core/lock.py"}
