"""Which capture is read where a folder holds several."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blocknerf.core.config.dataset import DatasetConfig
from blocknerf.core.errors import UserError
from blocknerf.scene.readers.read import read_scene
from tests.support.scene_builders import colmap_capture, transforms_capture, write_transforms

CONFIG = DatasetConfig()
NAMES = [f"{index:04d}.png" for index in range(6)]


def piece(root: Path, folder: str, count: int) -> None:
    """A model of the first `count` images in `folder`, beside what lies there already."""
    separate = root.parent / f"{root.name}-piece"
    colmap_capture(separate, names=NAMES[:count])
    shutil.copytree(separate / "images", root / "images", dirs_exist_ok=True)
    shutil.copytree(separate / "sparse/0", root / folder)
    shutil.rmtree(separate)


def count(root: Path, **keys) -> int:
    return len(read_scene(root, DatasetConfig(**keys)).images)


@pytest.mark.parametrize("counts", [(3, 6), (6, 3), (3, 4, 6)])
@pytest.mark.parametrize("place", ["sparse", "colmap/sparse"])
def test_the_largest_model_is_read_and_every_other_can_be_asked_for(
    tmp_path: Path, counts: tuple[int, ...], place: str, caplog: pytest.LogCaptureFixture
):
    for number, size in enumerate(counts):
        piece(tmp_path, f"{place}/{number}", size)
    assert count(tmp_path) == max(counts)
    assert "the most images" in caplog.text
    for number, size in enumerate(counts):
        key = f"{place}/{number}"
        assert f"dataset.colmap_model={key}" in caplog.text
        assert count(tmp_path, colmap_model=key) == size


def test_images_without_a_photograph_do_not_count(tmp_path: Path):
    piece(tmp_path, "sparse/0", 6)
    piece(tmp_path, "sparse/1", 3)
    for name in NAMES[2:]:
        (tmp_path / "images" / name).unlink()
    colmap_capture(tmp_path / "other", names=["a.png", "b.png", "c.png"])
    shutil.copytree(tmp_path / "other/images", tmp_path / "images", dirs_exist_ok=True)
    shutil.copytree(tmp_path / "other/sparse/0", tmp_path / "sparse/2")
    assert [image.name for image in read_scene(tmp_path, CONFIG).images] == ["a.png", "b.png", "c.png"]


def test_one_model_alone_is_read_without_a_word(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    piece(tmp_path, "sparse/0", 3)
    read_scene(tmp_path, CONFIG)
    assert caplog.text == ""


def test_binary_and_text_of_one_model_are_two(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    scene = colmap_capture(tmp_path)
    scene.write_text(tmp_path / "sparse/0")
    path = tmp_path / "sparse/0/images.txt"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-2]))
    assert count(tmp_path) == 5
    assert "sparse/0/images.txt (4 images" in caplog.text
    assert count(tmp_path, colmap_model="sparse/0/images.txt") == 4
    assert count(tmp_path, colmap_model="sparse/0/images.bin") == 5


@pytest.mark.parametrize("addition", ["mask", "split", "depth", "exposure", None])
@pytest.mark.parametrize("frames", [2, 4, 6])
def test_what_its_owner_edited_comes_first_unless_it_has_few_images(
    tmp_path: Path, addition: str | None, frames: int, caplog: pytest.LogCaptureFixture
):
    piece(tmp_path, "colmap/sparse/0", 6)
    tree = transforms_capture(tmp_path, count=6, size=(48, 36))
    tree["frames"] = tree["frames"][:frames]
    for frame in tree["frames"]:
        frame |= {"mask": {"mask_path": "mask.png"}, "exposure": {"exposure": 2.0}}.get(addition or "", {})
        frame |= {"depth_file_path": "depth.npy"} if addition == "depth" else {}
    if addition == "split":
        tree["test_filenames"] = [tree["frames"][0]["file_path"]]
    Image.new("L", (48, 36), 255).save(tmp_path / "mask.png")
    np.save(tmp_path / "depth.npy", np.ones((36, 48), np.float32))
    write_transforms(tmp_path, tree)
    scene = read_scene(tmp_path, CONFIG)
    is_edited = addition is not None and frames >= 3
    assert len(scene.images) == (frames if is_edited else 6)
    assert (len(scene.points_world) == 0) == is_edited
    assert f"Reading {'nerfstudio' if is_edited else 'colmap'} (" in caplog.text
    assert len(read_scene(tmp_path, DatasetConfig(type="nerfstudio")).images) == frames
    assert len(read_scene(tmp_path, DatasetConfig(type="colmap")).images) == 6


def test_what_cannot_be_read_is_passed_over_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    piece(tmp_path, "sparse/0", 6)
    (tmp_path / "sparse/0/images.bin").write_bytes(b"torn")
    with pytest.raises(UserError, match="truncated"):
        read_scene(tmp_path, CONFIG)
    piece(tmp_path, "sparse/1", 3)
    assert count(tmp_path) == 3
    assert "sparse/0 is skipped" in caplog.text
    assert "truncated" in caplog.text
    (tmp_path / "sparse/1/images.bin").write_bytes(b"torn")
    (tmp_path / "transforms.json").write_text(json.dumps({"frames": 3}))
    with pytest.raises(UserError, match=r"sparse/0.images.bin is truncated"):
        read_scene(tmp_path, CONFIG)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"colmap_model": "/etc"}, "inside of the capture"),
        ({"colmap_model": "../sparse"}, "inside of the capture"),
        ({"colmap_model": "sparse/0", "type": "kitti"}, "type must be colmap"),
    ],
)
def test_a_model_that_cannot_be_is_refused_by_the_configuration(keys: dict, message: str):
    with pytest.raises(ValueError, match=message):
        DatasetConfig(**keys)


def test_a_model_that_is_not_there_is_refused(tmp_path: Path):
    piece(tmp_path, "sparse/0", 3)
    with pytest.raises(UserError, match=r"sparse/7 has no cameras"):
        read_scene(tmp_path, DatasetConfig(colmap_model="sparse/7"))
