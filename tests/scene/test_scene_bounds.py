"""Scenes are bounded where they are read: what no ray can be cast in is left out by name, or refused by its extent."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blocknerf.core.config.dataset import DatasetConfig
from blocknerf.core.errors import UserError
from blocknerf.core.ply import write_points
from blocknerf.scene.readers.read import read_scene
from blocknerf.scene.scene import GeoOrigin, Scene
from tests.support.scene_builders import colmap_capture, transforms_capture, write_transforms

ANY_FOLDER = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def moved(folder: Path, place) -> Scene:
    """The small capture with `place(number, centre)` as its cameras' centres."""
    tree = transforms_capture(folder)
    for number, frame in enumerate(tree["frames"]):
        centre = place(number, np.array(frame["transform_matrix"])[:3, 3])
        for axis in range(3):
            frame["transform_matrix"][axis][3] = float(centre[axis])
    write_transforms(folder, tree)
    return read_scene(folder, DatasetConfig())


@ANY_FOLDER
@given(exponent=st.floats(-12, 8))
def test_scales_that_can_be_worked_with_are_kept_to_the_bit(tmp_path, exponent):
    scale = 10.0**exponent
    places = {}
    scene = moved(tmp_path, lambda number, centre: places.setdefault(number, scale * centre))
    assert not scene.skipped
    np.testing.assert_array_equal(scene.centers_world, np.stack(list(places.values())))


@ANY_FOLDER
@given(exponent=st.floats(14, 308))
def test_a_scale_that_cannot_is_refused_with_its_extent(tmp_path, exponent):
    with pytest.raises(UserError, match=r"stand up to .*e\+.* from the origin, and 1e\+12 .*Divide"):
        moved(tmp_path, lambda number, centre: 10.0**exponent * np.sign(centre))


@ANY_FOLDER
@given(where=st.floats().filter(lambda value: not abs(value) <= 1e12), number=st.integers(0, 3), axis=st.integers(0, 2))
def test_a_camera_astray_is_left_out_by_name(tmp_path, where, number, axis):
    away = np.eye(3)[axis]
    scene = moved(tmp_path, lambda row, centre: np.where(away, where, centre) if row == number else centre)
    ((name, reason),) = scene.skipped
    assert name == f"{number:04d}.png"
    assert reason in ("its pose holds a value that is not finite", "it stands more than 1e+12 from the origin")
    assert np.isfinite(scene.centers_world).all()


@ANY_FOLDER
@given(
    key=st.sampled_from(["fl_x", "fl_y", "cx", "cy", "k1", "k2", "p1", "k3"]),
    value=st.floats().filter(lambda value: not abs(value) <= 1e9),
)
def test_intrinsics_that_no_camera_has(tmp_path, key, value):
    tree = transforms_capture(tmp_path)
    tree["frames"][1][key] = value
    write_transforms(tmp_path, tree)
    scene = read_scene(tmp_path, DatasetConfig())
    assert [name for name, _ in scene.skipped] == ["0001.png"]
    assert all(map(math.isfinite, (value for camera in scene.cameras.values() for value in camera.params)))


def test_points_astray_are_left_out_and_the_others_are_still_seen(tmp_path):
    model = colmap_capture(tmp_path)
    before = read_scene(tmp_path, DatasetConfig())
    far = sorted(model.points3D)[4]
    model.points3D[far].xyz = [0, 1e39, 0]
    model.write_binary(tmp_path / "sparse" / "0")
    scene = read_scene(tmp_path, DatasetConfig())
    np.testing.assert_array_equal(scene.points_world, np.delete(before.points_world, 4, axis=0))
    for image, old in zip(scene.images, before.images, strict=True):
        seen = before.points_world[[row for row in old.point_rows if row != 4]]
        np.testing.assert_array_equal(scene.points_world[image.point_rows], seen)


def test_points_of_a_ply_that_are_at_no_place(tmp_path):
    transforms_capture(tmp_path, ply_file_path="points.ply")
    places = np.array([[0, 0, 0], [math.nan, 0, 0], [0, math.inf, 0], [0, 0, 1e30], [1, 2, 3]])
    write_points(tmp_path / "points.ply", places, np.zeros((5, 3), np.uint8))
    assert read_scene(tmp_path, DatasetConfig()).points_world.tolist() == [[0, 0, 0], [1, 2, 3]]


@pytest.mark.parametrize("altitude_m", [math.nan, math.inf, -1e300])
def test_an_altitude_is_a_number(altitude_m):
    with pytest.raises(UserError, match="is not a place on Earth"):
        GeoOrigin(50.0, 8.0, altitude_m)
