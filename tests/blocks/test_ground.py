"""The ground frame: up, the smallest rectangle, and moving with the world."""

import numpy as np
import pytest

from blocknerf.blocks.ground import estimate_up, ground_frame, smallest_rectangle
from tests.support.made_scenes import aerial, look_at, moved, streets


def poses_of(scene) -> np.ndarray:
    return np.stack([image.world_from_cam for image in scene.images])


def random_rotation(seed: int) -> np.ndarray:
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return q * np.sign(np.linalg.det(q))


def degrees_from_z(up: np.ndarray) -> float:
    return float(np.degrees(np.arccos(np.clip(up[2], -1, 1))))


@pytest.mark.parametrize("make", [aerial, streets])
def test_up_is_found_from_the_air_and_from_the_street(make):
    assert degrees_from_z(estimate_up(poses_of(make()))) < 2


def test_up_is_found_for_a_walk_around_something():
    ring = [(10 * np.cos(a), 10 * np.sin(a), 2 + np.sin(3 * a)) for a in np.linspace(0, 6, 40)]
    assert degrees_from_z(estimate_up(np.stack([look_at(c, (0, 0, 4)) for c in ring]))) < 1


def test_portrait_photographs_do_not_turn_the_ground():
    poses = poses_of(streets(drives=1))
    ring = np.stack([look_at((np.cos(a), np.sin(a), 0), (0, 0, 0)) for a in np.linspace(0, 6, 30)])
    quarter = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    ring[::3, :, :3] = ring[::3, :, :3] @ quarter
    assert degrees_from_z(estimate_up(ring)) < 2
    assert degrees_from_z(estimate_up(poses[:1])) < 2  # a single camera says where it thinks up is


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_up_turns_with_the_world(seed):
    rotation, scene = random_rotation(seed), aerial()
    turned = poses_of(moved(scene, rotation, np.array([5.0, -700.0, 30.0])))
    np.testing.assert_allclose(estimate_up(turned), rotation @ estimate_up(poses_of(scene)), atol=1e-9)


def test_the_frame_is_a_rotation_and_its_own_inverse_brings_points_back():
    frame = ground_frame(poses_of(moved(aerial(), random_rotation(4), np.array([1e5, 2e5, 3.0]))))
    axes = frame.ground_from_world
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(axes) == pytest.approx(1)
    points = np.random.default_rng(0).normal(size=(20, 3)) * 100
    np.testing.assert_allclose(frame.to_world(frame.to_ground(points)), points, atol=1e-9)


def test_the_cameras_fill_the_footprint_around_the_origin():
    scene = moved(aerial(), random_rotation(5), np.array([300.0, 1.0, 2.0]))
    frame = ground_frame(poses_of(scene))
    xy = frame.to_ground(scene.centers_world)[:, :2]
    half = np.array(frame.extent_m) / 2
    np.testing.assert_allclose(xy.max(axis=0), half, atol=1e-9)
    np.testing.assert_allclose(xy.min(axis=0), -half, atol=1e-9)


@pytest.mark.parametrize("angle", [-0.6, 0.0, 0.3, 0.7])
def test_smallest_rectangle_of_a_turned_rectangle(angle):
    rng = np.random.default_rng(0)
    corners = np.array([[0, 0], [10, 0], [10, 4], [0, 4.0]])
    points = np.concatenate([corners, rng.uniform((0, 0), (10, 4), (50, 2))])
    c, s = np.cos(angle), np.sin(angle)
    turn, middle, size = smallest_rectangle(points @ np.array([[c, s], [-s, c]]) + [100, 7])
    assert turn == pytest.approx(angle, abs=1e-9)
    assert size == pytest.approx((10, 4))
    np.testing.assert_allclose(middle, np.array([c * 5 - s * 2, s * 5 + c * 2]) + [100, 7], atol=1e-9)


def test_no_other_turn_gives_a_smaller_rectangle():
    points = np.random.default_rng(3).normal(size=(40, 2)) * [5, 2]
    _, _, (width, height) = smallest_rectangle(points)
    for angle in np.linspace(0, np.pi / 2, 400):
        axes = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        assert width * height <= np.prod(np.ptp(points @ axes.T, axis=0)) * (1 + 1e-9)


@pytest.mark.parametrize("points", [[[3.0, 4.0]], [[0, 0], [0, 2.0]], [[0, 0], [1, 1], [2, 2.0]], [[1, 1], [1, 1.0]]])
def test_points_and_lines_have_a_rectangle_too(points):
    points = np.array(points)
    _, middle, size = smallest_rectangle(points)
    np.testing.assert_allclose(middle, (points.min(axis=0) + points.max(axis=0)) / 2, atol=1e-9)
    assert max(size) == pytest.approx(np.linalg.norm(np.ptp(points, axis=0)))
    assert min(size) == pytest.approx(0, abs=1e-9)
