"""Real captures, where there are any: `BLOCKNERF_DATA` names the folder that holds them."""

import os
from pathlib import Path

import numpy as np
import pytest

from blocknerf.core.config.dataset import DatasetConfig
from blocknerf.scene.readers.read import read_scene
from blocknerf.scene.store import ImageStore

pytestmark = pytest.mark.real_data

COUNTS = {"fox": (50, 17), "castle_p30": (30, 0), "giza_rooftop": (302, 0), "south_building": (128, 0)}
COUNTS |= {"caliterra_aerial": (75, 0), "statue_of_liberty": (109, 0), "kitti_sequence_1": (51, 0)}


@pytest.mark.parametrize("name", COUNTS)
def test_captures_are_read_and_points_lie_before_their_cameras(name: str):
    folder = Path(os.environ.get("BLOCKNERF_DATA", "no captures")) / name
    if not folder.is_dir():
        pytest.skip(f"no capture {name}: set BLOCKNERF_DATA to the folder of captures")
    scene = read_scene(folder, DatasetConfig())
    assert (len(scene.images), len(scene.skipped)) == COUNTS[name]
    for image in scene.images:
        seen = scene.points_world[image.point_rows] - image.world_from_cam[:, 3]
        assert ((seen @ image.world_from_cam[:, 2]) > 0).all()


def test_a_car_drives_where_it_looks():
    folder = Path(os.environ.get("BLOCKNERF_DATA", "no captures")) / "kitti_sequence_1"
    if not folder.is_dir():
        pytest.skip("no capture kitti_sequence_1: set BLOCKNERF_DATA to the folder of captures")
    poses = np.stack([image.world_from_cam for image in read_scene(folder, DatasetConfig()).images])
    steps_m = np.diff(poses[:, :, 3], axis=0)
    ahead_m = (steps_m * poses[:-1, :, 2]).sum(1)
    assert 55 < ahead_m.sum() < 65
    assert (ahead_m > 0.99 * np.linalg.norm(steps_m, axis=1)).all()


def test_cameras_around_an_object_look_at_it():
    folder = Path(os.environ.get("BLOCKNERF_DATA", "no captures")) / "fox"
    if not folder.is_dir():
        pytest.skip("no capture fox: set BLOCKNERF_DATA to the folder of captures")
    poses = np.stack([image.world_from_cam for image in read_scene(folder, DatasetConfig()).images])
    axes, centers = poses[:, :, 2], poses[:, :, 3]
    across = np.eye(3) - axes[:, :, None] * axes[:, None, :]
    middle = np.linalg.solve(across.sum(0), (across @ centers[:, :, None]).sum(0))[:, 0]
    towards = middle - centers
    cosines = (towards * axes).sum(1) / np.linalg.norm(towards, axis=1)
    assert np.median(cosines) > 0.95


def test_masks_keep_the_statue_and_hide_the_sky(tmp_path: Path):
    """White keeps: most points of structure from motion lie on the statue and are kept; the upper corners are not."""
    folder = Path(os.environ.get("BLOCKNERF_DATA", "no captures")) / "statue_of_liberty"
    if not folder.is_dir():
        pytest.skip("no capture statue_of_liberty: set BLOCKNERF_DATA to the folder of captures")
    scene = read_scene(folder, DatasetConfig())
    assert all(len(image.mask_paths) == 1 for image in scene.images)
    store = ImageStore.open(scene, 8, tmp_path, progress=False)
    kept_points, kept_corners, shares = [], [], []
    for image in scene.images:
        valid = store.valid(image.id)
        height, width = valid.shape
        focal = scene.cameras[image.camera_key].params[0] / 8
        points = (scene.points_world[image.point_rows] - image.world_from_cam[:, 3]) @ image.world_from_cam[:, :3]
        x, y = ((points[:, :2] / points[:, 2:] * focal).T + np.array([[width / 2], [height / 2]])).astype(int)
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        kept_points.append(valid[y[inside], x[inside]].mean())
        kept_corners.append(valid[:2, [0, 1, -2, -1]].mean())
        shares.append(valid.mean())
    assert np.median(kept_points) > 0.8 > 0.4 > np.mean(shares)
    assert np.mean(kept_corners) < 0.05
