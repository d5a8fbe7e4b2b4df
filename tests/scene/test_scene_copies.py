"""Copies of test images are not learned from; neighbours that only look alike are."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blocknerf.blocks.output import open_scene, plan_scene
from blocknerf.blocks.plan import planned_split
from blocknerf.core.config.config import Config
from blocknerf.core.config.dataset import DatasetConfig
from blocknerf.scene.copies import without_copies
from blocknerf.scene.readers.read import read_scene
from blocknerf.scene.scene import Scene
from tests.support.scene_builders import transforms_capture, write_transforms


def scenery(seed: int, size: tuple[int, int] = (320, 240)) -> Image.Image:
    """Something smooth with detail, as photographs are."""
    coarse = np.random.default_rng(seed).integers(64, 192, (12, 16, 1), np.uint8).repeat(3, axis=2)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def same_bytes(original: Path, copy: Path) -> None:
    copy.write_bytes(original.read_bytes())


def quarter_size(original: Path, copy: Path) -> None:
    Image.open(original).reduce(4).save(copy)


def poor_quality(original: Path, copy: Path) -> None:
    buffer = io.BytesIO()
    Image.open(original).save(buffer, "JPEG", quality=40)
    Image.open(buffer).save(copy)


def capture(root: Path, copy: Callable[[Path, Path], None], names: dict[str, str], nudge_m: float = 0.0) -> Scene:
    """Nine photographs, of which 0000 and 0008 are for testing, and copies of them under `names`, a bit away."""
    tree = transforms_capture(root, count=9, size=(320, 240))
    for number, frame in enumerate(tree["frames"]):
        scenery(number).save(root / frame["file_path"])
    for name, original in names.items():
        frame = next(frame for frame in tree["frames"] if original in frame["file_path"])
        again = {"file_path": f"images/{name}", "transform_matrix": np.array(frame["transform_matrix"])}
        again["transform_matrix"][0, 3] += nudge_m
        again["transform_matrix"] = again["transform_matrix"].tolist()
        (root / "images" / name).parent.mkdir(exist_ok=True)
        copy(root / frame["file_path"], root / "images" / name)
        tree["frames"].append(again)
    write_transforms(root, {**tree, "test_filenames": ["images/0000.png", "images/0008.png"]})
    return read_scene(root, DatasetConfig())


@pytest.mark.parametrize("copy", [same_bytes, quarter_size, poor_quality])
@pytest.mark.parametrize("nudge_m", [0.0, 1e-3])
def test_a_copy_of_a_test_image_is_not_learned_from(
    tmp_path: Path, copy: Callable, nudge_m: float, caplog: pytest.LogCaptureFixture
):
    scene = capture(tmp_path, copy, {"z/a.png": "0000", "z/b.png": "0003"}, nudge_m)
    kept = without_copies(scene, 8)
    assert {image.name for image in scene.images} - {image.name for image in kept.images} == {"z/a.png"}
    assert kept.test_names == {"0000.png", "0008.png"}
    assert kept.skipped == (("z/a.png", "it is a copy of the test image 0000.png"),)
    assert "z/a.png (of 0000.png)" in caplog.text


def test_the_every_nth_image_stays_the_same_image(tmp_path: Path):
    """Although there are fewer images by then."""
    scene = capture(tmp_path, same_bytes, {"0000a.png": "0000", "0004a.png": "0004"})
    tree_without_list = Scene(**{name: getattr(scene, name) for name in Scene.__slots__} | {"test_names": None})
    kept = without_copies(tree_without_list, 5)
    assert kept.test_names == {"0000.png", "0004.png", "0008.png"}
    assert [name for name, _ in kept.skipped] == ["0000a.png", "0004a.png"]


def test_the_next_frame_and_the_same_pose_alone_are_no_copy(tmp_path: Path):
    names = {"a.png": "0000", "b.png": "0000", "c.png": "0008"}
    capture(tmp_path, same_bytes, names)
    pixels = np.asarray(scenery(0))
    Image.fromarray(np.roll(pixels, 10, axis=1)).save(tmp_path / "images/a.png")  # the camera turned by a few pixels
    scenery(77).save(tmp_path / "images/b.png")
    scenery(78).save(tmp_path / "images/c.png")
    scene = read_scene(tmp_path, DatasetConfig())
    assert without_copies(scene, 8) is scene


def test_the_same_picture_from_elsewhere_is_no_copy(tmp_path: Path):
    scene = capture(tmp_path, same_bytes, {"a.png": "0000"}, nudge_m=2.0)
    assert without_copies(scene, 8) is scene


def test_what_a_plan_knows_stays_and_the_folder_is_the_same_scene_again(tmp_path: Path):
    config = Config.model_validate({"block_manager": {"max_blocks": 1}})
    scene = capture(tmp_path / "scene", same_bytes, {"z/a.png": "0000"})
    assert without_copies(scene, 8, kept_ids={image.id for image in scene.images}) is scene
    _, planned, plan = plan_scene(config, tmp_path / "scene", tmp_path / "out")
    train, test = planned_split(plan, planned)
    assert {image.name for image in test} == {"0000.png", "0008.png"}
    assert "z/a.png" not in {image.name for image in train}
    again = open_scene(tmp_path / "out", config.dataset)
    assert [image.id for image in again.images] == [image.id for image in planned.images]
