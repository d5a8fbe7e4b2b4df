"""The ball around an object in pictures without background: it holds the object, hardly more, or it is not there."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from blocknerf.blocks.image_visibility import focus_point
from blocknerf.blocks.output import plan_scene
from blocknerf.blocks.silhouettes import Silhouette, bounded_cube, silhouettes_of
from blocknerf.core.camera import Camera
from blocknerf.core.config.load import load_config
from blocknerf.geometry.so3 import exp
from blocknerf.scene.rays import camera_directions
from blocknerf.scene.scene import poses_of
from tests.support.scene_builders import blender_scene
from tests.support.solids import poses_around

AWAY_M = 4.0
CAMERA = Camera.pinhole(96, 80, 110.0)
HALF_M = np.array([0.9, 0.35, 0.5])
CENTER = np.array([0.1, -0.2, 0.3])
ONE_BLOCK = load_config(None, ["block_manager.max_blocks=1", "dataset.alpha=white"])


def silhouette(camera: Camera, pose: np.ndarray, half_m: np.ndarray = HALF_M) -> Silhouette:
    """Of a box with its axes, around CENTER."""
    directions = camera_directions(camera, camera.width, camera.height).reshape(-1, 3) @ pose[:, :3].T
    with np.errstate(divide="ignore"):
        sides = np.stack([(CENTER + sign * half_m - pose[:, 3]) / directions for sign in (-1, 1)])
    enters, leaves = sides.min(axis=0).max(axis=1), sides.max(axis=0).min(axis=1)
    return Silhouette(camera, pose, ((leaves > enters) & (leaves > 0)).reshape(camera.height, camera.width))


def all_around(count: int = 40, half_m: np.ndarray = HALF_M, camera: Camera = CAMERA) -> list[Silhouette]:
    return [silhouette(camera, pose, half_m) for pose in poses_around(count, AWAY_M)]


def corners(half_m: np.ndarray = HALF_M) -> np.ndarray:
    signs = np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1])).reshape(3, -1).T
    return CENTER + signs * half_m


def square_in_pictures(root: Path, begin: int, end: int) -> None:
    """Writes 24 pictures, transparent but for a white square from `begin` to `end`."""
    for name, pixels in blender_scene(root, train=24).items():
        pixels[:] = 0
        pixels[begin:end, begin:end] = 255
        Image.fromarray(pixels).save(root / name)


def ball_of(silhouettes: list[Silhouette]):
    focus = focus_point(np.stack([each.frame_from_cam for each in silhouettes]))
    assert focus is not None
    return bounded_cube(silhouettes, focus)


@pytest.mark.parametrize("camera", [CAMERA, Camera("OPENCV", 96, 80, (110.0, 108.0, 47.0, 41.0, -0.1, 0.02, 0.0, 0.0))])
@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_it_holds_the_object_and_hardly_more(camera, scale):
    half_m = scale * HALF_M
    cube = ball_of(all_around(half_m=half_m, camera=camera))
    assert cube is not None
    assert cube.bounded
    assert np.linalg.norm(corners(half_m) - cube.center, axis=1).max() <= cube.radius_m
    assert cube.radius_m <= 1.25 * np.linalg.norm(half_m) + 0.1


def test_seen_from_one_side_it_still_holds_the_object():
    views = [each for each in all_around(120) if each.frame_from_cam[0, 3] > 0.5 * AWAY_M]
    cube = ball_of(views)
    assert cube is not None
    assert np.linalg.norm(corners() - cube.center, axis=1).max() <= cube.radius_m


def test_it_moves_with_the_world():
    turn = exp(torch.tensor([0.4, -1.1, 0.3], dtype=torch.float64)).numpy()
    shift = np.array([300.0, -20.0, 7.0])
    still = ball_of(all_around())
    moved = [dataclasses.replace(each, frame_from_cam=turn @ each.frame_from_cam) for each in all_around()]
    for each in moved:
        each.frame_from_cam[:, 3] += shift
    cube = ball_of(moved)
    assert still is not None
    assert cube is not None
    places = corners() @ turn.T + shift
    assert np.linalg.norm(places - cube.center, axis=1).max() <= cube.radius_m
    assert cube.radius_m == pytest.approx(still.radius_m, rel=0.15)


def test_one_wrong_picture_of_many_takes_nothing_away():
    views = all_around()
    views[7] = dataclasses.replace(views[7], is_opaque=np.zeros_like(views[7].is_opaque))
    cube = ball_of(views)
    assert cube is not None
    assert np.linalg.norm(corners() - cube.center, axis=1).max() <= cube.radius_m


@pytest.mark.parametrize("scale", [6.0, 2.2])
def test_an_object_that_does_not_fit_into_its_pictures_has_none(scale):
    assert ball_of(all_around(half_m=scale * HALF_M)) is None


def test_without_pictures_or_without_an_object_there_is_none():
    assert bounded_cube([], np.zeros(3)) is None
    empty = [dataclasses.replace(each, is_opaque=np.zeros_like(each.is_opaque)) for each in all_around()]
    assert ball_of(empty) is None


def test_the_plan_says_that_the_block_ends_with_the_object(tmp_path, caplog):
    """The builder's cameras stand 4 m and a little from the origin, at which they look."""
    square_in_pictures(tmp_path, 8, 16)
    _, _, plan = plan_scene(ONE_BLOCK, tmp_path, tmp_path / "out")
    assert plan.blocks[0].bounded
    assert 0.4 < plan.blocks[0].radius_m < 1.2
    assert "silhouettes" in caplog.text


def test_the_plan_says_that_it_does_not_know_where_the_object_ends(tmp_path, caplog):
    """The builder's pictures are opaque down to their sides."""
    blender_scene(tmp_path, train=24)
    _, _, plan = plan_scene(ONE_BLOCK, tmp_path, tmp_path / "out")
    assert not plan.blocks[0].bounded
    assert "do not tell where the object ends" in caplog.text


def test_what_a_mask_hides_takes_nothing_away(tmp_path):
    """Every picture hides all but its middle, in which a small object is: what is around it is not known."""
    square_in_pictures(tmp_path, 10, 14)
    _, scene, plan = plan_scene(ONE_BLOCK, tmp_path, tmp_path / "out")
    assert plan.blocks[0].bounded
    mask = tmp_path / "hides.png"
    keeps = np.zeros((24, 24), np.uint8)
    keeps[8:16, 8:16] = 255
    Image.fromarray(keeps).save(mask)
    masked = [dataclasses.replace(image, mask_paths=(mask,)) for image in scene.images]
    found = silhouettes_of(scene, masked, poses_of(masked))
    assert len(found) == 24
    assert not found[0].is_opaque[9, 9]
    assert found[0].is_opaque[3, 3]
    assert ball_of(found) is None
