"""Points say when cameras or depth maps are of another capture or unit, and are silent where all is right."""

from pathlib import Path

import numpy as np
import pytest

from blocknerf.core.config.dataset import DatasetConfig
from blocknerf.scene.readers.read import read_scene
from tests.support.scene_builders import colmap_capture

CONFIG = DatasetConfig()
WARNING = "do not appear where"


def capture(root: Path, names: list[str] | None = None) -> Path:
    colmap_capture(root, kind="txt", size=(480, 360), names=names)
    return root / "sparse/0"


def changed(path: Path, change) -> None:
    """`change` gets the words of every line that is no comment, and its number."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    path.write_text("".join(f"{' '.join(change(line.split(), number))}\n" for number, line in enumerate(lines)))


@pytest.mark.parametrize("kind", ["bin", "txt"])
@pytest.mark.parametrize("model", ["SIMPLE_RADIAL", "OPENCV", "FULL_OPENCV", "OPENCV_FISHEYE"])
def test_a_right_capture_is_read_without_a_word(tmp_path: Path, kind: str, model: str, caplog):
    colmap_capture(tmp_path, kind=kind, model=model)
    read_scene(tmp_path, CONFIG)
    assert caplog.text == ""


@pytest.mark.parametrize(("parameter", "factor", "shift"), [(4, 1.4, 0), (5, 1, 40), (7, 1, 30.0)])
def test_wrong_intrinsics_are_said_once_with_how_many_and_by_how_much(
    tmp_path: Path, parameter: int, factor: float, shift: float, caplog
):
    """Focal length, principal point, distortion."""
    model = capture(tmp_path)

    def change(words: list[str], _: int) -> list[str]:
        words[parameter] = str(float(words[parameter]) * factor + shift)
        return words

    changed(model / "cameras.txt", change)
    read_scene(tmp_path, CONFIG)
    assert caplog.text.count(WARNING) == 1
    assert "5 of 5 images" in caplog.text
    assert "px, in " in caplog.text


def test_one_pose_that_is_wrong_is_named(tmp_path: Path, caplog):
    model = capture(tmp_path)

    def change(words: list[str], number: int) -> list[str]:
        if number == 4:
            words[5] = str(float(words[5]) + 1.0)
        return words

    changed(model / "images.txt", change)
    read_scene(tmp_path, CONFIG)
    assert "1 of 5 images" in caplog.text
    assert "in 002.png by" in caplog.text


def test_keypoints_of_pictures_of_another_size_are_no_miss(tmp_path: Path, caplog):
    model = capture(tmp_path)

    def change(words: list[str], number: int) -> list[str]:
        if number % 2 == 0:
            return words
        return [word if index % 3 == 2 else str(4 * float(word)) for index, word in enumerate(words)]

    changed(model / "images.txt", change)
    read_scene(tmp_path, CONFIG)
    assert caplog.text == ""


def test_points_behind_cameras_are_said_where_there_are_no_keypoints(tmp_path: Path, caplog):
    from blocknerf.scene.readers.points_check import check_cameras

    capture(tmp_path)
    scene = read_scene(tmp_path, CONFIG)
    check_cameras(tmp_path, scene.images, scene.cameras, scene.points_world, {})
    assert caplog.text == ""
    check_cameras(tmp_path, scene.images, scene.cameras, 100 * scene.points_world, {})
    assert "images saw them" in caplog.text


@pytest.mark.parametrize(("factor", "is_said"), [(1, False), (1.4, False), (1000, True), (0.001, True), (100, True)])
def test_depth_in_another_unit_is_said(tmp_path: Path, factor: float, is_said: bool, caplog):
    capture(tmp_path)
    np.save(tmp_path / "depth.npy", np.full((360, 480), 4.0 * factor, np.float32))
    images = ", ".join(f'"{number:03d}.png": {{"depth": "depth.npy"}}' for number in range(5))
    (tmp_path / "blocknerf_scene.json").write_text(f'{{"version": 1, "images": {{{images}}}}}')
    read_scene(tmp_path, DatasetConfig(use_depth=True))
    assert ("another unit" in caplog.text) == is_said
