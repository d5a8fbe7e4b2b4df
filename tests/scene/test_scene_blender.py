"""NeRF's synthetic scenes: their split, their names, their transparent ground, and what is missing is said."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blocknerf.core.config.dataset import DatasetConfig
from blocknerf.core.errors import UserError
from blocknerf.scene.copies import without_copies
from blocknerf.scene.readers.read import read_scene
from blocknerf.scene.splits import split_images
from blocknerf.scene.store import ImageStore
from tests.support.scene_builders import CUT_OUT_PX, blender_scene

WHITE = DatasetConfig(alpha="white")


def names_of(root: Path, config: DatasetConfig = WHITE) -> tuple[set[str], set[str]]:
    """Of the images that are trained on, and of those that are for testing."""
    train, test = split_images(read_scene(root, config), config.test_every)
    return {image.name for image in train}, {image.name for image in test}


@pytest.mark.parametrize("ending", ["", ".png"])
def test_what_is_trained_on_and_what_is_tested_are_the_files_parts(tmp_path: Path, ending: str):
    pictures = blender_scene(tmp_path, ending, train=5, val=3, test=2)
    train, test = names_of(tmp_path)
    assert train == {name for name in pictures if name.startswith("train/")}
    assert test == {name for name in pictures if name.startswith("test/")}


@pytest.mark.parametrize(("ground", "value"), [("white", 255.0), ("black", 0.0)])
def test_pictures_are_put_on_the_chosen_ground(tmp_path: Path, ground, value: float):
    """colour x alpha + ground x (1 - alpha), of every pixel."""
    pictures = blender_scene(tmp_path, train=3, test=2)
    scene = read_scene(tmp_path, DatasetConfig(alpha=ground))
    store = ImageStore.open(scene, 1, tmp_path / "store", progress=False)
    assert len(scene.images) == len(pictures)
    for image in scene.images:
        pixels = pictures[image.name].astype(float)
        opacity = pixels[..., 3:] / 255
        assert np.abs(store.rgb(image.id) - (pixels[..., :3] * opacity + value * (1 - opacity))).max() <= 1
        assert (store.rgb(image.id)[:4] == value).all()


def test_no_ground_is_chosen_in_silence(tmp_path: Path):
    blender_scene(tmp_path, train=3, test=2)
    with pytest.raises(UserError, match=r"dataset\.alpha=white .* published figures"):
        read_scene(tmp_path, DatasetConfig())


@pytest.mark.parametrize(
    ("counts", "test", "said"),
    [
        ({"train": 9, "val": 1, "test": 2}, {"test/r_0.png", "test/r_1.png"}, None),
        ({"train": 9, "test": 2}, {"test/r_0.png", "test/r_1.png"}, None),
        ({"train": 9, "val": 1}, {"val/r_0.png"}, "no transforms_test.json with frames: the images of transforms_val"),
        ({"train": 9}, {"train/r_0.png", "train/r_8.png"}, "no transforms_val.json and no transforms_test.json"),
        ({"val": 1, "test": 9}, {"test/r_0.png", "test/r_8.png"}, "no transforms_train.json with frames, so no split"),
    ],
)
@pytest.mark.parametrize("has_empty_lists", [False, True])
def test_a_part_that_is_missing_is_said(tmp_path: Path, caplog, counts: dict[str, int], test, said, has_empty_lists):
    """A file without frames is as good as none."""
    blender_scene(tmp_path, **counts)
    for part in {"train", "val", "test"} - counts.keys() if has_empty_lists else ():
        (tmp_path / f"transforms_{part}.json").write_text('{"camera_angle_x": 0.69, "frames": []}')
    trained, tested = names_of(tmp_path)
    assert tested == test
    assert not trained & tested
    assert (said or "with frames") in caplog.text if said else "with frames" not in caplog.text


def test_a_frame_without_a_file_is_skipped_and_said(tmp_path: Path, caplog):
    """Nor does the file of the same name in another part take its place."""
    blender_scene(tmp_path, train=4, val=4, test=2)
    (tmp_path / "train/r_3.png").unlink()
    train, _ = names_of(tmp_path)
    assert train == {"train/r_0.png", "train/r_1.png", "train/r_2.png"}
    assert "1 of 6 images are skipped: there is no such file" in caplog.text
    assert "train/r_3" in caplog.text


def test_a_folder_without_its_pictures_is_refused(tmp_path: Path):
    blender_scene(tmp_path, train=4, test=2)
    for part in ("train", "test"):
        shutil.rmtree(tmp_path / part)
    with pytest.raises(UserError, match="lists 6 images of which 0 can be used"):
        read_scene(tmp_path, WHITE)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "transforms_test"),
        ('{"camera_angle_x": 0.69}', "transforms_test.json has no list of frames"),
        ('{"frames": [{"file_path": "./test/r_0"}]}', "transforms_test.json, frame 0"),
        ('{"camera_angle_x": 0.69, "frames": [{"file_path": 7}]}', "'file_path' must name a file"),
        ('{"camera_angle_x": "wide", "frames": [{"file_path": "./test/r_0"}]}', "'camera_angle_x'"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, text: str, match: str):
    blender_scene(tmp_path, train=3, test=2)
    (tmp_path / "transforms_test.json").write_text(text)
    with pytest.raises(UserError, match=match):
        read_scene(tmp_path, WHITE)


def test_a_neighbouring_view_of_a_small_object_is_no_copy(tmp_path: Path):
    """Transparent pixels are alike in any two pictures and say nothing; a true copy is found."""
    blender_scene(tmp_path, train=8, test=8)
    tree = json.loads((tmp_path / "transforms_train.json").read_text())
    of_test = json.loads((tmp_path / "transforms_test.json").read_text())
    for number in (0, 1):
        tree["frames"][number]["transform_matrix"] = of_test["frames"][number]["transform_matrix"]
    (tmp_path / "transforms_train.json").write_text(json.dumps(tree))
    picture = np.zeros((CUT_OUT_PX, CUT_OUT_PX, 4), np.uint8)
    picture[:, :, :3] = np.random.default_rng(0).integers(0, 256, (CUT_OUT_PX, CUT_OUT_PX, 3))  # under the transparency
    picture[10:14, 10:14] = (100, 100, 100, 255)
    for name, level in (("test/r_0", 100), ("train/r_0", 115), ("test/r_1", 100), ("train/r_1", 101)):
        picture[10:14, 10:14, :3] = level
        Image.fromarray(picture).save(tmp_path / f"{name}.png")
    scene = read_scene(tmp_path, WHITE)
    assert [name for name, _ in without_copies(scene, 8).skipped] == ["train/r_1.png"]


def test_only_pictures_on_a_chosen_colour_are_cut_out(tmp_path: Path):
    blender_scene(tmp_path, train=3, test=2)
    cut_out = {
        ground: read_scene(tmp_path, DatasetConfig(alpha=ground)).images for ground in ("white", "black", "mask")
    }
    assert {ground: {image.is_cut_out for image in images} for ground, images in cut_out.items()} == {
        "white": {True},
        "black": {True},
        "mask": {False},
    }
