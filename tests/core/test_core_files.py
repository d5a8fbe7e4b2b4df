"""Files are whole or absent."""

import os
from pathlib import Path

import pytest

from blocknerf.core.errors import UserError
from blocknerf.core.files import write_atomically, write_bytes, write_json
from blocknerf.core.reading import read_json


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_written_comes_back_and_nothing_else_stays(tmp_path):
    value = {"b": [1, 2.5, None], "a": {"ü": "ß"}, "rows": [[1, 2], [], {}, [{"deep": [True]}, "x"]], "none": {}}
    write_json(tmp_path / "deep" / "value.json", value)
    assert read_json(tmp_path / "deep" / "value.json", "value") == value
    assert names(tmp_path / "deep") == ["value.json"]


def test_the_same_value_gives_the_same_bytes_ending_in_a_newline(tmp_path):
    for name in ("one", "two"):
        write_json(tmp_path / name, {"x": 0.1, "y": [1, 2]})
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert (tmp_path / "one").read_bytes().endswith(b"}\n")


def test_a_flat_list_stands_on_one_line(tmp_path):
    write_json(tmp_path / "value", {"pose": [[1, 2], [3, 4]], "ids": ["a", "b"]})
    assert (
        (tmp_path / "value").read_text()
        == """{
  "pose": [
    [1, 2],
    [3, 4]
  ],
  "ids": ["a", "b"]
}
"""
    )


def test_a_writer_that_fails_halfway_leaves_the_old_file(tmp_path):
    path = tmp_path / "block"
    write_bytes(path, b"old")

    def fail(temporary: Path) -> None:
        temporary.write_bytes(b"half of the n")
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        write_atomically(path, fail)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["block"]


def test_the_new_file_is_never_seen_before_it_is_complete(tmp_path):
    path = tmp_path / "block"
    write_bytes(path, b"old")
    seen = []

    def slow(temporary: Path) -> None:
        temporary.write_bytes(b"ne")
        seen.append(path.read_bytes())
        temporary.write_bytes(b"new")

    write_atomically(path, slow)
    assert (seen, path.read_bytes()) == ([b"old"], b"new")


def test_a_full_disk_is_said_and_the_old_file_stays(tmp_path):
    path = tmp_path / "block"
    write_bytes(path, b"old")

    def fill(_: Path) -> None:
        with Path("/dev/full").open("wb", buffering=0) as disk:
            disk.write(b"new")

    with pytest.raises(UserError, match="Cannot write .*block: No space left on device"):
        write_atomically(path, fill)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["block"]


def test_a_disk_that_fills_up_at_the_last_moment_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "block"
    write_bytes(path, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(UserError, match="No space left"):
            write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["block"]


def test_a_file_where_a_folder_should_be_is_named(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match=r"Cannot write .*file/inside"):
        write_bytes(tmp_path / "file" / "inside", b"x")


def test_json_has_no_place_for_what_is_no_number(tmp_path):
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "value.json", {"psnr": float("nan")})
    assert names(tmp_path) == []


@pytest.mark.parametrize("content", [b"", b"{", b'{"a": 1', b"\xff\xff"])
def test_damaged_json_names_what_it_was(tmp_path, content):
    (tmp_path / "plan.json").write_bytes(content)
    with pytest.raises(UserError, match=r"The plan .*plan\.json is damaged"):
        read_json(tmp_path / "plan.json", "plan")


def test_missing_json_names_what_it_was(tmp_path):
    with pytest.raises(UserError, match=r"There is no plan at .*plan\.json"):
        read_json(tmp_path / "plan.json", "plan")
