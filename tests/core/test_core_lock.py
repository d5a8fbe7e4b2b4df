"""One process at a time: who comes second is told who came first, and the dead hold nobody up."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from blocknerf.core import lock
from blocknerf.core.errors import UserError
from blocknerf.core.files import write_bytes
from blocknerf.core.lock import is_locked, locked_file, locked_folder

HOLD = """
import sys, time
from pathlib import Path
from blocknerf.core.lock import locked_folder
with locked_folder(Path(sys.argv[1]), "It is being made"):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""
COUNT = """
import sys, time
from pathlib import Path
from blocknerf.core.lock import locked_file
count = Path(sys.argv[1])
for _ in range(int(sys.argv[2])):
    with locked_file(count, "It is being counted", wait_s=60.0):
        before = int(count.read_text())
        time.sleep(0.0005)
        count.write_text(str(before + 1))
"""


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, text=True)


def holding(folder: Path, seconds: float) -> subprocess.Popen[str]:
    process = start(HOLD, folder, seconds)
    assert process.stdout is not None
    with process.stdout as output:
        assert output.readline() == "held\n"
    return process


@pytest.fixture
def other(tmp_path):
    """Another process that holds `tmp_path / "out"`."""
    process = holding(tmp_path / "out", 60)
    yield process
    process.kill()
    process.wait()


def test_a_second_process_is_told_who_was_first(tmp_path, other):
    message = rf"It is being made by `-c .*out 60` \(process {other.pid} on .*, since 20"
    with pytest.raises(UserError, match=message), locked_folder(tmp_path / "out", "It is being made"):
        pass
    assert is_locked(tmp_path / "out")


def test_the_lock_of_a_dead_process_does_not_hold(tmp_path, other):
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert (tmp_path / "out" / lock.NAME).exists()
    assert not is_locked(tmp_path / "out")
    with locked_folder(tmp_path / "out", "It is being made"):
        assert is_locked(tmp_path / "out")
    assert not (tmp_path / "out").exists() or list((tmp_path / "out").iterdir()) == []


def test_who_waits_gets_it_when_the_other_has_done(tmp_path):
    process = holding(tmp_path / "out", 0.3)
    with locked_folder(tmp_path / "out", "It is being made", wait_s=60.0):
        assert process.wait(10) == 0


def test_several_processes_never_hold_it_at_once(tmp_path):
    (tmp_path / "count").write_text("0")
    processes = [start(COUNT, tmp_path / "count", 40) for _ in range(3)]
    assert [process.communicate(timeout=120)[0] for process in processes] == ["", "", ""]
    assert (tmp_path / "count").read_text() == "120"
    assert [path.name for path in tmp_path.iterdir()] == ["count"]


def test_threads_of_one_process_keep_each_other_out_and_one_may_ask_again(tmp_path):
    order = []

    def other() -> None:
        with locked_folder(tmp_path, "It is being made", wait_s=60.0):
            order.append("other")

    with locked_folder(tmp_path, "It is being made"), locked_folder(tmp_path, "It is being made"):
        thread = threading.Thread(target=other)
        thread.start()
        time.sleep(0.1)
        order.append("first")
    thread.join()
    assert order == ["first", "other"]


def test_what_is_shared_is_nobodys_alone(tmp_path):
    outcome = []

    def alone() -> None:
        try:
            with locked_folder(tmp_path, "It is being made"):
                outcome.append("alone")
        except UserError:
            outcome.append("refused")

    def together() -> None:
        with locked_folder(tmp_path, "It is being made", shared=True):
            outcome.append("together")

    with locked_folder(tmp_path, "It is being made", shared=True):
        for act in (alone, together):
            thread = threading.Thread(target=act)
            thread.start()
            thread.join()
    assert outcome == ["refused", "together"]


def test_what_the_dead_left_is_removed_and_what_others_make_beside_it_stays(tmp_path):
    names = (".a.json.host.123.tmp", ".b.json.host.123.tmp", "photo.tmp", ".user.tmp")
    for name in names:
        (tmp_path / name).write_bytes(b"")
    (tmp_path / ".maps.host.123.tmp").mkdir()
    (tmp_path / ".maps.host.123.tmp" / "array").write_bytes(b"")
    with locked_file(tmp_path / "a.json", "It is being made"):
        assert not (tmp_path / names[0]).exists()
        assert (tmp_path / names[1]).exists()
    with locked_folder(tmp_path, "It is being made"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == [".user.tmp", "photo.tmp"]


def test_what_the_dead_left_below_is_removed_once_before_something_is_written_there(tmp_path):
    left = [tmp_path / place / ".old.png.host.123.tmp" for place in ("a", "a/b", "c")]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    write_bytes(tmp_path / "a" / "b" / "new.png", b"")
    assert all(path.exists() for path in left)  # nobody has said that they are the dead's
    with locked_folder(tmp_path, "It is being made"), locked_folder(tmp_path, "It is being made"):
        write_bytes(tmp_path / "a" / "b" / "new.png", b"")
        assert [path.exists() for path in left] == [True, False, True]
        left[1].write_bytes(b"")
        write_bytes(tmp_path / "a" / "b" / "newer.png", b"")
        assert left[1].exists()
    with locked_folder(tmp_path / "c", "It is being made", shared=True):
        write_bytes(tmp_path / "a" / "new.png", b"")
    with locked_folder(tmp_path, "It is being made", below=False):
        write_bytes(tmp_path / "a" / "new.png", b"")
    assert left[0].exists()


def test_folders_that_a_lock_made_vanish_with_it_unless_something_lies_in_them(tmp_path):
    with locked_folder(tmp_path / "a" / "b", "It is being made"):
        pass
    assert not (tmp_path / "a").exists()
    with locked_file(tmp_path / "a" / "b" / "file", "It is being made"):
        (tmp_path / "a" / "file").write_bytes(b"")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["file"]


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[" * 100_000, b'{"host": 1}', b"\xff", b'{"host":"x","pid":-1,"since":1e400,"command":""}']
)
def test_what_stands_in_the_file_is_for_the_message_alone(tmp_path, content):
    (tmp_path / lock.NAME).write_bytes(content)
    with locked_folder(tmp_path, "It is being made"):
        assert (tmp_path / lock.NAME).read_bytes() != content
    (tmp_path / lock.NAME).write_bytes(content)
    assert lock.holder(tmp_path) == "another process"


def test_a_long_command_does_not_make_a_long_message(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["blocknerf", "x" * 5000])
    with locked_folder(tmp_path, "It is being made"):
        assert len(lock.holder(tmp_path)) < 300


def test_a_disk_without_locks_is_said_once_and_keeps_nobody(tmp_path, monkeypatch, caplog):
    def none(handle: int, kind: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", none)
    monkeypatch.setattr(lock.log, "propagate", True)
    for _ in range(2):
        with locked_folder(tmp_path, "It is being made") as held:
            assert held.handle is None
    assert len({id(record) for record in caplog.records if "has no locks" in record.message}) == 1
    (tmp_path / ".file.another.123.tmp").write_bytes(b"")  # perhaps being written on another machine
    with locked_folder(tmp_path, "It is being made"):
        pass
    assert (tmp_path / ".file.another.123.tmp").exists()


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    message = r"Cannot write in .*file: .*then run the same command again"
    with pytest.raises(UserError, match=message), locked_folder(tmp_path / "file", "It is being made"):
        pass
    assert [path.name for path in Path(tmp_path).iterdir()] == ["file"]
