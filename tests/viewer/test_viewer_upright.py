"""Photographs whose pixels lie on their side are looked at upright."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from blocknerf.core.camera import Camera
from blocknerf.scene.orientation import Orientation
from blocknerf.scene.scene import ImageRecord, Scene
from blocknerf.viewer.map import photograph_view

UPRIGHT = np.concatenate([np.eye(3), [[1.0], [2.0], [3.0]]], axis=1)
LYING = UPRIGHT @ np.array([[0, -1.0, 0, 0], [1.0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
"""As EXIF orientation 6 has it: the stored picture's right is a person's down."""


def view_of(pose: np.ndarray, size: tuple[int, int], orientation: Orientation):
    image = replace(ImageRecord("a", "a", Path("a"), "c", pose), orientation=orientation)
    scene = Scene(Path(), {"c": Camera.pinhole(*size, 50.0)}, (image,), np.zeros((0, 3)), np.zeros((0, 3), np.uint8))
    return photograph_view(scene, image, 0.75)


def test_pixels_on_their_side_are_looked_at_as_the_same_picture_stored_upright():
    lying, upright = view_of(LYING, (40, 30), Orientation(6)), view_of(UPRIGHT, (30, 40), Orientation())
    assert np.allclose(lying.world_from_cam, upright.world_from_cam)
    assert lying.fov_y_rad == pytest.approx(upright.fov_y_rad)
