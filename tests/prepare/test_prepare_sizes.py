"""A capture that lies in its folder at several sizes, or in several kinds, is one capture."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blocknerf.prepare.gather import MARKER, find_sources
from blocknerf.prepare.sizes import at_their_largest

WIDTH, HEIGHT = 240, 160


def picture(seed: int) -> Image.Image:
    small = np.random.default_rng(seed).integers(0, 255, (16, 24, 3), np.uint8)
    return Image.fromarray(small).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)


def write(folder: Path, seeds: range, factor: int = 1, ending: str = ".jpg", first: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        resized = picture(seed).resize((WIDTH // factor, HEIGHT // factor), Image.Resampling.LANCZOS)
        resized.save(folder / f"{seed - first:03d}{ending}", quality=90)


def taken(source: Path) -> list[str]:
    return [path.relative_to(source).as_posix() for path in find_sources(source, source / "out", None).photographs]


@pytest.mark.parametrize(
    "folders", [{"images": 1, "images_2": 2, "images_4": 4}, {"small": 4, "large": 1, "thumbs": 3}]
)
@pytest.mark.parametrize("below", ["", "front"])
def test_the_largest_is_taken_whatever_folders_are_called(tmp_path, caplog, folders, below):
    for folder, factor in folders.items():
        write(tmp_path / folder / below, range(5), factor, ".png" if factor == 2 else ".jpg")
    (largest,) = (folder for folder, factor in folders.items() if factor == 1)
    assert taken(tmp_path) == [(Path(largest) / below / f"{n:03d}.jpg").as_posix() for n in range(5)]
    assert caplog.text.count("5 photographs in") == 2
    sources = find_sources(tmp_path, tmp_path / "out", None)
    assert set(sources.names.values()) == {f"{n:03d}.jpg" for n in range(5)}


def test_what_only_the_smaller_folder_has_is_kept(tmp_path):
    write(tmp_path / "images", range(6))
    write(tmp_path / "images_2", range(7), 2)
    assert taken(tmp_path) == [f"images/{n:03d}.jpg" for n in range(6)] + ["images_2/006.jpg"]


def test_other_pictures_of_the_same_names_are_other_pictures(tmp_path, caplog):
    """Two cameras of one rig, one with half the resolution; and two that are as large."""
    write(tmp_path / "front", range(5))
    write(tmp_path / "left", range(10, 15), 2, first=10)
    write(tmp_path / "right", range(20, 25), first=20)
    assert len(taken(tmp_path)) == 15
    assert not caplog.text


def test_one_kind_of_each_photograph_in_a_folder(tmp_path, caplog):
    write(tmp_path / "card", range(4))
    write(tmp_path / "card", range(4), ending=".png")
    assert len(taken(tmp_path)) == 4
    assert "exist in two formats" in " ".join(caplog.text.split())


def test_what_is_no_picture_is_left_for_others_to_say(tmp_path):
    write(tmp_path / "images", range(3))
    write(tmp_path / "images_2", range(3), 2)
    (tmp_path / "images_2/001.jpg").write_bytes(b"")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/000.jpg").write_bytes(b"no picture")
    paths = sorted(tmp_path.rglob("*.jpg"))
    assert set(at_their_largest(paths)) >= {tmp_path / "broken/000.jpg", *(tmp_path / "images").iterdir()}


def test_masks_at_every_size_and_other_scenes_are_no_photographs(tmp_path, caplog):
    for folder in ("images", "masks", "masks_2", "mask", "Masks_4", "earlier/images"):
        write(tmp_path / folder, range(3))
    (tmp_path / "earlier" / MARKER).write_text("{}")
    assert taken(tmp_path) == [f"images/{n:03d}.jpg" for n in range(3)]
    assert "is a scene that `blocknerf prepare` made" in " ".join(caplog.text.split())
