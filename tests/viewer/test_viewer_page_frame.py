"""The page's coordinates."""

from dataclasses import replace

import numpy as np
import pytest

from blocknerf.city.city import City
from blocknerf.geometry.spline import rotations_of
from blocknerf.scene.scene import Scene
from blocknerf.viewer.page_frame import LARGEST_UNITS, PageFrame


@pytest.fixture
def manifest(built):
    return City.open(built[0]).manifest


def far_apart(scene: Scene, times: float) -> Scene:
    """The capture that many times as large."""
    stretch = np.array([1, 1, 1, times])
    return replace(
        scene, images=tuple(replace(one, world_from_cam=one.world_from_cam * stretch) for one in scene.images)
    )


@pytest.mark.parametrize("times", [1.0, 1e4])
def test_there_and_back_again(manifest, built, times):
    scene = far_apart(built[1], times)
    frame = PageFrame.of(manifest, scene)
    for image in scene.images:
        wxyz, position = frame.place(image.world_from_cam)
        np.testing.assert_allclose(frame.pose(wxyz, position), image.world_from_cam, atol=1e-9 * times)
        np.testing.assert_allclose(position, frame.points(image.world_from_cam[:, 3][None])[0])


def test_a_large_city_is_shrunk_and_a_small_one_is_not(manifest, built):
    assert PageFrame.of(manifest, built[1]).units_per_m == 1.0
    large = far_apart(built[1], 1e4)
    frame = PageFrame.of(manifest, large)
    assert 0.9 * LARGEST_UNITS < np.ptp(frame.points(large.centers_world), axis=0).max() <= LARGEST_UNITS


def test_up_is_z(manifest, built):
    frame = PageFrame.of(manifest, built[1])
    ups = np.array([-rotations_of(frame.place(image.world_from_cam)[0][None])[0][:, 1] for image in built[1].images])
    assert ups.mean(axis=0)[2] > 0.9


def test_a_city_without_layout_keeps_the_worlds_axes(manifest):
    frame = PageFrame.of(replace(manifest, layout=None), None)
    points = np.array([[0.0, 0, 0], [1, 2, 3]])
    np.testing.assert_allclose(np.diff(frame.points(points), axis=0), [[1, 2, 3]])
