"""The layer under all that is written: what it is told of, what it leaves, and whose temporary files are whose."""

import errno
import os
import socket
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from blocknerf.core import disk
from blocknerf.core.errors import UserError
from blocknerf.core.files import copy_file, put_folder, recover_folder, write_array, write_bytes, write_json


class Recorder:
    """Notes every call; fails the one of the number `at`, in the middle where it writes."""

    def __init__(self, at: int | None = None):
        self.at, self.calls = at, []

    def __call__(self, kind, path, do, half):
        self.calls.append((kind, Path(path).name))
        if self.at == len(self.calls):
            if half is not None:
                half()
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return do()


def test_a_file_that_is_written_whole_is_six_calls(tmp_path):
    recorder = Recorder()
    with disk.faults(recorder):
        write_bytes(tmp_path / "new" / "file", b"content")
    assert [kind for kind, _ in recorder.calls] == ["mkdir", "open", "write", "fsync", "rename", "fsync"]


def test_nothing_stands_in_the_way_outside_of_the_context(tmp_path):
    recorder = Recorder(at=1)
    with disk.faults(recorder), pytest.raises(UserError):
        write_bytes(tmp_path / "file", b"x")
    write_bytes(tmp_path / "file", b"x")
    assert len(recorder.calls) == 1


@pytest.mark.parametrize(
    "write",
    [
        lambda path: write_json(path, {"a": list(range(1000))}),
        lambda path: write_array(path, np.arange(1000.0)),
        lambda path: copy_file(Path(__file__), path),
    ],
)
def test_each_call_that_fails_leaves_the_old_file_or_the_new_one_and_no_other(tmp_path, write):
    path = tmp_path / "file"
    write(tmp_path / "whole")
    whole, number = (tmp_path / "whole").read_bytes(), 0
    (tmp_path / "whole").unlink()
    while True:
        path.write_bytes(b"old")
        number += 1
        recorder = Recorder(at=number)
        with disk.faults(recorder), suppress(UserError):
            write(path)
        assert path.read_bytes() in (b"old", whole)
        assert [found.name for found in tmp_path.iterdir()] == ["file"]
        if len(recorder.calls) < number:
            break
    assert number > 4
    assert path.read_bytes() == whole


def test_an_array_comes_back_as_numpy_reads_it(tmp_path):
    array = np.random.default_rng(0).normal(size=(3, 4, 2)).astype(np.float32)[:, ::2]
    write_array(tmp_path / "array.npy", array)
    np.testing.assert_array_equal(np.load(tmp_path / "array.npy"), array)


def test_a_new_file_is_never_written_through_a_link(tmp_path):
    (tmp_path / "photograph").write_bytes(b"original")
    (tmp_path / "link").symlink_to(tmp_path / "photograph")
    with disk.create(tmp_path / "link") as file:
        file.write(b"new")
    assert (tmp_path / "photograph").read_bytes() == b"original"
    assert (tmp_path / "link").read_bytes() == b"new"


def test_a_tree_is_removed_and_what_its_links_show_stays(tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "photograph").write_bytes(b"original")
    (tmp_path / "tree" / "deep").mkdir(parents=True)
    (tmp_path / "tree" / "deep" / "link").symlink_to(tmp_path / "kept")
    disk.remove_tree(tmp_path / "tree")
    disk.remove_tree(tmp_path / "tree")
    assert [path.name for path in tmp_path.rglob("*")] == ["kept", "photograph"]


def test_mapped_memory_has_its_room_on_the_disk(tmp_path):
    array = disk.mapped(tmp_path / "array", np.float32, (1000, 10))
    assert array.sum() == 0
    assert os.stat(tmp_path / "array").st_blocks * 512 >= array.nbytes
    assert len(disk.mapped(tmp_path / "none", np.float32, (0, 3))) == 0


@pytest.mark.parametrize("can_exchange", [True, False])
@pytest.mark.parametrize("at", range(1, 8))
def test_a_folder_that_takes_the_place_of_another_is_there_whole_after_the_next_start(
    tmp_path, can_exchange, at, monkeypatch
):
    if not can_exchange:
        monkeypatch.setattr(disk, "_exchanged", lambda one, other: False)
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(name.encode())
    (tmp_path / "old").rename(tmp_path / "folder")
    with disk.faults(Recorder(at)), suppress(OSError):
        put_folder(tmp_path / "new", tmp_path / "folder")
    assert not can_exchange or (tmp_path / "folder" / "file").exists()
    recover_folder(tmp_path / "folder")
    assert (tmp_path / "folder" / "file").read_bytes() in (b"old", b"new")


@pytest.mark.parametrize("name", ["plan.json", "ü" * 120, "x" * 250, "\udcc3\udc9f" * 90, ".hidden", "a.tmp"])
def test_temporary_names_fit_tell_their_maker_and_are_found(tmp_path, name):
    path = disk.temporary(tmp_path / name)
    assert len(os.fsencode(path.name)) < 255
    assert disk.is_unfinished(path.name)
    assert disk.is_of_living(path)
    assert disk.leftovers(tmp_path) == []  # one's own is none
    pid = str(os.getpid())
    left = path.with_name(path.name.replace(f".{pid}.", ".999999999."))
    left.write_bytes(b"half")
    assert not disk.is_of_living(left)
    assert disk.leftovers(tmp_path) == disk.leftovers(tmp_path, name) == [left]
    assert disk.leftovers(tmp_path, "other") == []


def test_one_of_another_machine_may_be_alive(tmp_path):
    host = socket.gethostname().replace(".", "-")
    other_machine = (
        disk.temporary(tmp_path / "file").name.replace(host, "elsewhere").replace(str(os.getpid()), "999999999")
    )
    assert disk.is_of_living(tmp_path / other_machine)


@pytest.mark.parametrize("name", ["photo.tmp", ".photo.jpg", ".tmp", ".x.tmp", ".thumbnails.5.tmp.jpg"])
def test_files_of_others_are_never_left_over(tmp_path, name):
    (tmp_path / name).write_bytes(b"mine")
    assert disk.leftovers(tmp_path) == []
