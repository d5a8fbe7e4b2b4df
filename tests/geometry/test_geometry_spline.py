"""Laws of the way between poses."""

import numpy as np
import pytest

from blocknerf.core.errors import UserError
from blocknerf.geometry.spline import interpolate_poses, quaternions_of, rotations_of


def random_rotations(count: int) -> np.ndarray:
    quaternions = np.random.default_rng(5).normal(size=(count, 4))
    return rotations_of(quaternions)


def turned_about_y(angles_rad) -> np.ndarray:
    c, s, o, one = np.cos(angles_rad), np.sin(angles_rad), np.zeros_like(angles_rad), np.ones_like(angles_rad)
    return np.array([[c, o, s], [o, one, o], [-s, o, c]]).transpose(2, 0, 1)


def poses_at(centers, rotations=None) -> np.ndarray:
    centers = np.asarray(centers, float)
    rotations = np.broadcast_to(np.eye(3), (len(centers), 3, 3)) if rotations is None else rotations
    return np.concatenate([rotations, centers[:, :, None]], axis=2)


def winding(count: int) -> np.ndarray:
    t = np.linspace(0, 1, count)
    return poses_at(np.stack([30 * t, np.sin(6 * t), 8 * np.cos(5 * t)], 1), turned_about_y(2 * t))


def test_quaternions_and_rotations_are_inverse_half_turns_included():
    half_turns = np.stack([np.diag(d) for d in ([1.0, -1, -1], [-1, 1, -1], [-1, -1, 1], [1, 1, 1])])
    rotations = np.concatenate([random_rotations(40), half_turns])
    again = rotations_of(quaternions_of(rotations))
    np.testing.assert_allclose(again, rotations, atol=1e-12)
    np.testing.assert_allclose(again @ again.transpose(0, 2, 1), np.broadcast_to(np.eye(3), again.shape), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(again), 1)


def test_the_way_begins_and_ends_at_the_ends_and_holds_poses():
    keys = winding(9)
    frames = interpolate_poses(keys, 50)
    np.testing.assert_allclose(frames[[0, -1]], keys[[0, -1]], atol=1e-9)
    rotations = frames[:, :, :3]
    np.testing.assert_allclose(
        rotations @ rotations.transpose(0, 2, 1), np.broadcast_to(np.eye(3), rotations.shape), atol=1e-12
    )


def test_the_way_passes_through_every_key():
    keys = winding(9)
    frames = interpolate_poses(keys, 4000)
    gaps = np.linalg.norm(frames[None, :, :, 3] - keys[:, None, :, 3], axis=2)
    assert gaps.min(axis=1).max() < 0.01
    at = gaps.argmin(axis=1)
    assert (np.diff(at) > 0).all()
    np.testing.assert_allclose(frames[at, :, :3], keys[:, :, :3], atol=0.01)


def test_a_straight_unturned_way_is_straight_and_even_whatever_the_keys():
    keys = poses_at([[x, 2 * x, 0] for x in (0, 1, 1.5, 7, 10)])
    centers = interpolate_poses(keys, 41)[:, :, 3]
    np.testing.assert_allclose(centers[:, 1], 2 * centers[:, 0], atol=1e-9)
    steps = np.linalg.norm(np.diff(centers, axis=0), axis=1)
    np.testing.assert_allclose(steps, np.sqrt(5) * 10 / 40, rtol=0.02)


def test_speed_is_even_and_velocity_does_not_jump():
    """Twice the frames halve the change between neighbouring steps of a curve whose velocity is continuous."""

    def largest_bend(count):
        frames = interpolate_poses(winding(9), count).reshape(count, 12)
        return np.abs(np.diff(frames, 2, axis=0)).max()

    frames = interpolate_poses(winding(9), 200)
    steps = np.linalg.norm(np.diff(frames[:, :, 3], axis=0), axis=1)
    assert steps.max() < 1.6 * steps.min()
    assert largest_bend(1600) < largest_bend(200) / 16


def test_the_same_way_in_another_frame_and_backwards():
    keys = winding(7)
    rotation, shift = random_rotations(1)[0], np.array([100.0, -7, 3])
    moved = np.concatenate([rotation @ keys[:, :, :3], (keys[:, :, 3] @ rotation.T + shift)[:, :, None]], axis=2)
    frames = interpolate_poses(keys, 33)
    expected = np.concatenate([rotation @ frames[:, :, :3], (frames[:, :, 3] @ rotation.T + shift)[:, :, None]], axis=2)
    np.testing.assert_allclose(interpolate_poses(moved, 33), expected, atol=1e-6)
    np.testing.assert_allclose(interpolate_poses(keys[::-1].copy(), 33)[::-1], frames, atol=1e-3)


def test_a_camera_that_only_turns_turns_evenly():
    frames = interpolate_poses(poses_at(np.zeros((5, 3)), turned_about_y(np.array([0, 0.2, 0.5, 1.1, 1.6]))), 17)
    np.testing.assert_allclose(frames[:, :, :3], turned_about_y(np.linspace(0, 1.6, 17)), atol=0.01)


def test_standing_still_in_between_does_not_stop_the_way():
    keys = poses_at([[0, 0, 0], [5, 0, 0], [5, 0, 0], [5, 0, 0], [10, 0, 0]])
    centers = interpolate_poses(keys, 11)[:, 0, 3]
    np.testing.assert_allclose(centers, np.arange(11.0), atol=0.05)


def test_standing_still_all_the_time_is_said():
    with pytest.raises(UserError, match="stands still"):
        interpolate_poses(poses_at(np.ones((4, 3))), 10)
