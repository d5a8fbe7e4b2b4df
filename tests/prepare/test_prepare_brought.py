"""What `prepare` removes is what it brought, and never a photograph that it was given."""

import errno
import json
import os
from pathlib import Path

import pytest
from PIL import Image

from blocknerf.core import disk
from blocknerf.core.errors import UserError
from blocknerf.prepare.gather import find_sources
from blocknerf.prepare.images import bring_images
from blocknerf.prepare.prepare import MARKER, Settings, prepare


def photographs(folder: Path, count: int = 3) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.new("RGB", (24, 16), (80 * number, 0, 0)).save(folder / f"{number}.png")
    return folder


def bring(source: Path, out: Path) -> None:
    bring_images(find_sources(source, out, None), out, 1.0, False)


def prepared(tmp_path: Path) -> tuple[Path, Path]:
    """A source, and a scene made of it as far as a scene is without COLMAP."""
    source, out = photographs(tmp_path / "source"), tmp_path / "scene"
    with pytest.raises(UserError):  # there is nothing to be seen in them
        prepare(source, out, Settings())
    assert (out / MARKER).is_file()
    return source, out


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("way", ["itself", "link", "links to files", "above"])
def test_the_scenes_own_images_are_no_source(tmp_path, way):
    source, out = prepared(tmp_path)
    for path in source.iterdir():  # what lies in the scene is all that is left
        path.unlink()
    other = {"itself": out / "images", "link": tmp_path / "link", "links to files": tmp_path / "some", "above": out}[
        way
    ]
    if way == "link":
        other.symlink_to(out / "images")
    elif way == "links to files":
        other.mkdir()
        for path in (out / "images").iterdir():
            (other / path.name).symlink_to(path)
    before = contents(out / "images")
    for overwrite in (False, True):
        with pytest.raises(UserError, match="writes and empties itself"):
            prepare(other, out, Settings(), overwrite)
    assert contents(out / "images") == before
    assert len(before) == 3


@pytest.mark.parametrize("overwrite", [False, True])
def test_only_what_was_brought_makes_way(tmp_path, overwrite):
    source, out = prepared(tmp_path)
    foreign_files = {
        "images/mine.png": b"a",
        "images/sub/mine.txt": b"b",
        "sparse/0/mine.ini": b"c",
        "quality/mine.html": b"d",
    }
    for name, content in foreign_files.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(content)
    originals = contents(source)
    (source / "2.png").rename(source / "7.png")
    if overwrite:
        with pytest.raises(UserError):
            prepare(source, out, Settings(), overwrite)
    else:
        bring(source, out)
    assert contents(out).items() >= foreign_files.items()
    assert set(contents(out / "images")) == {"0.png", "1.png", "7.png", "mine.png", "sub/mine.txt"}
    assert sorted(contents(source).values()) == sorted(originals.values())


def test_a_file_of_somebody_else_is_not_replaced(tmp_path):
    source, out = prepared(tmp_path)
    Image.new("RGB", (24, 16)).save(source / "new.png")
    (out / "images" / "new.png").write_bytes(b"mine")
    with pytest.raises(UserError, match=r"new.png is there already"):
        bring(source, out)
    assert (out / "images" / "new.png").read_bytes() == b"mine"


class FailOnce:
    """The `number`-th write to the record of what was brought fails: in its middle, or the process ends there."""

    def __init__(self, number: int, error: type[BaseException]) -> None:
        self.left, self.error = number, error

    def __call__(self, kind, path, do, half):
        if kind == "write" and path.endswith("brought.jsonl"):
            self.left -= 1
            if self.left == 0:
                half()
                raise self.error(errno.EIO, os.strerror(errno.EIO))
        return do()


@pytest.mark.parametrize(("error", "raised"), [(OSError, UserError), (KeyboardInterrupt, KeyboardInterrupt)])
def test_a_record_that_cannot_be_written_loses_no_photograph(tmp_path, error, raised):
    source, out = photographs(tmp_path / "source"), tmp_path / "scene"
    with disk.faults(FailOnce(2, error)), pytest.raises(raised):
        bring(source, out)
    bring(source, out)
    assert set(contents(out / "images")) == {"0.png", "1.png", "2.png"}
    lines = (out / "prepare" / "brought.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [f"images/{number}.png" for number in range(3)]


def test_a_link_to_the_source_is_not_written_through(tmp_path):
    source, out = prepared(tmp_path)
    for path in (out / "images").iterdir():
        path.unlink()
    (out / "images").rmdir()
    (out / "images").symlink_to(source)
    before = contents(source)
    with pytest.raises(UserError, match=r"writes and empties itself|leads out of"):
        prepare(source, out, Settings(), overwrite=True)
    assert contents(source) == before


def test_a_scene_of_before_there_was_a_record_is_known(tmp_path):
    source, out = prepared(tmp_path)
    (out / "prepare" / "brought.jsonl").unlink()
    (source / "2.png").unlink()
    bring(source, out)
    assert set(contents(out / "images")) == {"0.png", "1.png"}
    assert not os.path.lexists(out / "images" / "2.png")
