"""A block file pair is whole, older or newer, whatever happens."""

import contextlib
import errno
import json
import os

import pytest
import torch

from blocknerf.core import disk
from blocknerf.core.errors import UserError
from blocknerf.models import block_file
from blocknerf.models.block_file import (
    BLOCK_VERSION,
    BlockFile,
    delete_block,
    has_block,
    read_block,
    tidy_block,
    write_block,
)
from tests.support.block_meta import FORMULA, meta_of


def make_block(value: float) -> BlockFile:
    tensors = {
        "table": torch.full((5, 2), value),
        "half": torch.full((3,), value, dtype=torch.bfloat16),
        "step": torch.tensor(7),
    }
    return BlockFile(meta_of("3", scene_hash="ab", value=value), tensors)


def test_reading_is_the_inverse_of_writing(tmp_path):
    block = make_block(1.5)
    write_block(tmp_path / "3", "latest", block)
    again = read_block(tmp_path / "3", "latest")
    assert again.meta.to_json() == block.meta.to_json()
    assert again.meta.version == BLOCK_VERSION
    assert again.tensors.keys() == block.tensors.keys()
    for key, tensor in block.tensors.items():
        assert again.tensors[key].dtype == tensor.dtype
        assert torch.equal(again.tensors[key], tensor)


def test_the_same_block_is_the_same_bytes(tmp_path):
    for folder in ("a", "b"):
        write_block(tmp_path / folder, "best", make_block(2.0))
    contents = [{path.name: path.read_bytes() for path in (tmp_path / folder).iterdir()} for folder in ("a", "b")]
    assert contents[0] == contents[1]


def test_latest_and_best_live_side_by_side_and_only_two_files_each_stay(tmp_path):
    write_block(tmp_path, "best", make_block(1.0))
    (tmp_path / ".latest-00.safetensors.123.tmp").write_bytes(b"left by a killed writer")
    for value in (2.0, 3.0):
        write_block(tmp_path, "latest", make_block(value))
    assert read_block(tmp_path, "best").meta.value == 1.0
    assert read_block(tmp_path, "latest").meta.value == 3.0
    assert len(list(tmp_path.iterdir())) == 4


def test_deleting_removes_one_pair_and_no_other(tmp_path):
    write_block(tmp_path, "best", make_block(1.0))
    kept = sorted(tmp_path.iterdir())
    write_block(tmp_path, "checkpoint", make_block(2.0))
    for _ in range(2):
        delete_block(tmp_path, "checkpoint")
        assert sorted(tmp_path.iterdir()) == kept
    assert has_block(tmp_path, "best")
    assert not has_block(tmp_path, "checkpoint")


def refuse_to_remove(kind, path, do, half):
    if kind == "unlink":
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    return do()


def test_weights_that_cannot_be_removed_are_said_and_left_for_the_next_time(tmp_path, caplog):
    write_block(tmp_path, "latest", make_block(1.0))
    stale = json.loads((tmp_path / "latest.json").read_text())["weights"]["file"]
    with disk.faults(refuse_to_remove), caplog.at_level("WARNING", logger="blocknerf"):
        write_block(tmp_path, "latest", make_block(2.0))
    assert f"{stale} is of no use any more and cannot be removed" in caplog.text
    assert (tmp_path / stale).exists()
    damaged = (tmp_path / "latest.json").read_text()
    (tmp_path / "latest.json").write_text("{}")
    tidy_block(tmp_path, "latest")
    assert (tmp_path / stale).exists()  # who has a copy of the JSON may still want them
    (tmp_path / "latest.json").write_text(damaged)
    tidy_block(tmp_path, "latest")
    assert not (tmp_path / stale).exists()
    assert read_block(tmp_path, "latest").meta.value == 2.0


def test_killed_at_any_file_operation_an_older_or_newer_pair_is_left(tmp_path, monkeypatch):
    """Stops the second write before its n-th rename or removal, for every n, and reads what is there."""

    class Killed(BaseException):
        pass

    seen = set()
    for stop_at in range(8):
        folder = tmp_path / str(stop_at)
        write_block(folder, "latest", make_block(1.0))
        calls = 0

        def counted(operation, stop_at=stop_at):
            def run(*arguments, **options):
                nonlocal calls
                if calls == stop_at:
                    raise Killed
                calls += 1
                return operation(*arguments, **options)

            return run

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", counted(os.replace))
            patch.setattr("pathlib.Path.unlink", counted(block_file.Path.unlink))
            with contextlib.suppress(Killed):
                write_block(folder, "latest", make_block(2.0))
        seen.add(read_block(folder, "latest").meta.value)
    assert seen == {1.0, 2.0}


@pytest.mark.parametrize("is_first", [True, False])
def test_a_disk_that_fills_up_between_the_two_files_leaves_no_weights_that_nobody_names(
    tmp_path, monkeypatch, is_first
):
    if not is_first:
        write_block(tmp_path, "latest", make_block(1.0))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(path, value):
        raise UserError(f"Cannot write {path}: No space left on device.")

    with monkeypatch.context() as patch:
        patch.setattr(block_file, "write_stored", full)
        with pytest.raises(UserError, match=r"Cannot write .*latest\.json"):
            write_block(tmp_path, "latest", make_block(2.0))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("value", [1.0, 2.0])
def test_an_error_behind_the_moment_of_the_change_costs_no_weights(tmp_path, monkeypatch, value):
    """The JSON is in its place and names the new weights; with 1.0, they are also those of before."""
    write_block(tmp_path, "latest", make_block(1.0))

    def late(path, content):
        block_file.write_bytes(path, json.dumps(content).encode())
        raise UserError("The folder cannot be synced.")

    with monkeypatch.context() as patch:
        patch.setattr(block_file, "write_stored", late)
        with pytest.raises(UserError, match="synced"):
            write_block(tmp_path, "latest", make_block(value))
    assert read_block(tmp_path, "latest").meta.value == value


def test_a_reader_that_loses_a_race_takes_the_newer_pair(tmp_path, monkeypatch):
    write_block(tmp_path, "latest", make_block(1.0))
    read_meta = block_file.read_block_meta
    reads = 0

    def replaced_after_first_read(folder, name):
        nonlocal reads
        meta = read_meta(folder, name)
        reads += 1
        if reads == 1:
            write_block(tmp_path, "latest", make_block(2.0))
        return meta

    monkeypatch.setattr(block_file, "read_block_meta", replaced_after_first_read)
    block = block_file.read_block(tmp_path, "latest")
    assert block.meta.value == 2.0
    assert torch.equal(block.tensors["table"], torch.full((5, 2), 2.0))


def truncate(folder):
    path = next(folder.glob("latest-*.safetensors"))
    path.write_bytes(path.read_bytes()[:-3])


def flip_a_bit(folder):
    path = next(folder.glob("latest-*.safetensors"))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


def remove_weights(folder):
    next(folder.glob("latest-*.safetensors")).unlink()


def remove_json(folder):
    (folder / "latest.json").unlink()


def cut_json(folder):
    path = folder / "latest.json"
    path.write_text(path.read_text()[:20])


def edit_json(folder, **changes):
    path = folder / "latest.json"
    tree = {**json.loads(path.read_text()), **changes}
    tree.pop("checksum")
    path.write_text(json.dumps(tree))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncate, r"latest-.*\.safetensors are \d+ bytes long, but latest.json was written for"),
        (flip_a_bit, r"latest-.*\.safetensors are damaged"),
        (remove_weights, r"latest-.*\.safetensors, which latest.json names, are missing"),
        (remove_json, r"no block file at .*latest\.json"),
        (cut_json, r"latest\.json is damaged"),
        (lambda folder: edit_json(folder, version=99), r"version 99; this program reads version 1"),
        (lambda folder: edit_json(folder, weights=None), "does not say which weights"),
        (
            lambda folder: edit_json(folder, weights={"file": "../x", "sha256": "", "bytes": 0}),
            "does not say which weights",
        ),
        (
            lambda folder: edit_json(
                folder,
                model={**FORMULA.to_json(), "image_ids": ["a", "b"], "pose_groups": {"by": "drive", "names": ["0"]}},
            ),
            "pose_groups names 1 images of 2",
        ),
    ],
)
def test_damage_names_the_file_and_the_remedy(tmp_path, damage, message):
    folder = tmp_path / "r0_c1"
    write_block(folder, "latest", make_block(1.0))
    damage(folder)
    with pytest.raises(UserError, match=message) as caught:
        read_block(folder, "latest")
    assert "--blocks r0_c1 --overwrite" in str(caught.value)


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "blocks").write_text("a file where a folder should be")
    with pytest.raises(UserError, match="Cannot write .*blocks"):
        write_block(tmp_path / "blocks" / "0", "latest", make_block(1.0))


def test_what_was_read_is_written_to_the_same_bytes(tmp_path):
    """Entries keep their order, and what this program does not know is kept."""
    meta = meta_of("3", anchor_world=(1.0, 2.0, 3.0), step=7, finished=True, value=1.5)
    first = write_block(tmp_path / "a", "latest", BlockFile(meta, {"rgb": torch.ones(3)}))
    again = write_block(tmp_path / "b", "latest", read_block(tmp_path / "a", "latest"))
    assert again.read_bytes() == first.read_bytes()
    assert list(json.loads(first.read_text()))[-4:] == ["value", "version", "weights", "checksum"]
