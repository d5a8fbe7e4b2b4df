"""A smooth path through camera poses, at constant speed."""

import numpy as np
import torch
from jaxtyping import Float64

from blocknerf.core.errors import UserError
from blocknerf.geometry import so3

SAMPLES_PER_SEGMENT = 32


def interpolate_poses(poses: Float64[np.ndarray, "keys 3 4"], count: int) -> Float64[np.ndarray, "frames 3 4"]:
    """`count` world_from_cam poses on a smooth curve through all `poses`, the first and last included.

    A centripetal Catmull-Rom spline (Yuksel et al. 2011) through camera centres and, at the same knots, through unit
    quaternions, which are normalised afterwards: both have continuous velocity. Frames are evenly spaced by path
    length. Turning adds to it: all turning counts half as much as all moving, so that a camera that turns on the spot
    takes its time. Raises UserError if the camera neither moves nor turns.
    """
    quaternions = _aligned(quaternions_of(poses[:, :, :3]))
    keys = np.concatenate([poses[:, :, 3], quaternions], axis=1)
    turning_m = _metres_per_radian(keys)
    keys = keys[np.concatenate([[True], _steps(keys, turning_m) > 1e-6 * _steps(keys, turning_m).mean()])]
    if len(keys) < 2:
        raise UserError("The path stands still: all its poses are the same. Choose another drive or path.")
    knots = np.concatenate([[0.0], np.cumsum(np.sqrt(_steps(keys, turning_m)))])
    dense = np.unique(np.linspace(knots[:-1], knots[1:], SAMPLES_PER_SEGMENT, axis=1))
    way = np.concatenate([[0.0], np.cumsum(_steps(_spline(knots, keys, dense), turning_m))])
    at = np.interp(np.linspace(0, way[-1], count), way, dense)
    frames = _spline(knots, keys, at)
    return np.concatenate([rotations_of(frames[:, 3:]), frames[:, :3, None]], axis=2)


def quaternions_of(rotations: Float64[np.ndarray, "n 3 3"]) -> Float64[np.ndarray, "n 4"]:
    """`so3.to_quaternion` of arrays."""
    return so3.to_quaternion(torch.from_numpy(np.ascontiguousarray(rotations))).numpy()


def rotations_of(quaternions: Float64[np.ndarray, "n 4"]) -> Float64[np.ndarray, "n 3 3"]:
    """`so3.from_quaternion` of arrays."""
    return so3.from_quaternion(torch.from_numpy(np.ascontiguousarray(quaternions))).numpy()


def _aligned(quaternions: Float64[np.ndarray, "n 4"]) -> Float64[np.ndarray, "n 4"]:
    """The same rotations with signs such that neighbours lie on the same half of the sphere."""
    turns = np.where((quaternions[1:] * quaternions[:-1]).sum(1) < 0, -1.0, 1.0)
    return quaternions * np.concatenate([[1.0], np.cumprod(turns)])[:, None]


def _metres_per_radian(keys: Float64[np.ndarray, "n 7"]) -> float:
    moved_m, turned_rad = _moved(keys).sum(), _turned(keys).sum()
    if moved_m == 0 or turned_rad == 0:
        return 1.0
    return 0.5 * float(moved_m / turned_rad)


def _steps(keys: Float64[np.ndarray, "n 7"], turning_m: float) -> Float64[np.ndarray, " n-1"]:
    """Length of each step: metres moved, and radians turned at `turning_m` metres each."""
    return np.hypot(_moved(keys), turning_m * _turned(keys))


def _moved(keys: Float64[np.ndarray, "n 7"]) -> Float64[np.ndarray, " n-1"]:
    return np.linalg.norm(np.diff(keys[:, :3], axis=0), axis=1)


def _turned(keys: Float64[np.ndarray, "n 7"]) -> Float64[np.ndarray, " n-1"]:
    units = keys[:, 3:] / np.linalg.norm(keys[:, 3:], axis=1, keepdims=True)
    chord = np.linalg.norm(np.diff(units, axis=0), axis=1)
    return 4 * np.arcsin(np.clip(chord / 2, 0, 1))


def _spline(
    knots: Float64[np.ndarray, " n"], keys: Float64[np.ndarray, "n d"], at: Float64[np.ndarray, " m"]
) -> Float64[np.ndarray, "m d"]:
    """Cubic Hermite spline whose tangent at a key is that of the parabola through it and its two neighbours."""
    gaps = np.diff(knots)[:, None]
    slopes = np.diff(keys, axis=0) / gaps
    tangents = np.empty_like(keys)
    tangents[1:-1] = (gaps[1:] * slopes[:-1] + gaps[:-1] * slopes[1:]) / (gaps[1:] + gaps[:-1])
    tangents[0], tangents[-1] = slopes[0], slopes[-1]
    left = np.clip(np.searchsorted(knots, at, side="right") - 1, 0, len(knots) - 2)
    u = (at - knots[left])[:, None] / gaps[left]
    return (
        (1 + 2 * u) * (1 - u) ** 2 * keys[left]
        + u * (1 - u) ** 2 * gaps[left] * tangents[left]
        + u**2 * (3 - 2 * u) * keys[left + 1]
        + u**2 * (u - 1) * gaps[left] * tangents[left + 1]
    )
