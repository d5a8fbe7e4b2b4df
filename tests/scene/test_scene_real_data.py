"""Real captures, where there are any: `BLOCKNERF_DATA` names the folder that holds them."""

import os
from pathlib import Path

import numpy as np
import pytest

from blocknerf.core.config import DatasetConfig
from blocknerf.scene.readers.read import read_scene

pytestmark = pytest.mark.real_data

COUNTS = {"fox": (50, 17), "castle_p30": (30, 0), "giza_rooftop": (302, 0), "south_building": (128, 0)}
COUNTS |= {"caliterra_aerial": (75, 0), "statue_of_liberty": (109, 0)}


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
