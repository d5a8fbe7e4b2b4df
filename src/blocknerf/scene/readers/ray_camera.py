"""From the rays of a picture back to a camera: the pinhole and pose nearest to them."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from blocknerf.core.camera import Camera
from blocknerf.scene.rays import camera_directions

_GRID = 32
"""Pixels across and down that the fit looks at."""
_DIGITS = 7
"""Of a camera's parameters: what float32 rays can tell, so that one camera's pictures share its table."""
_ROUNDING = 2e-6
"""Of a direction: less than this apart, rays and camera say the same."""


@dataclass(frozen=True, slots=True)
class FittedRays:
    """`camera` at `world_from_cam` casts these rays; where only nearly, `table` (scene/ray_tables.py) has them."""

    camera: Camera
    world_from_cam: np.ndarray  # [3, 4] float64
    table: np.ndarray | None  # [h, w, 3 or 6] float32


def fit_rays(
    origins_m: Float64[np.ndarray, "h w 3"], directions: Float64[np.ndarray, "h w 3"], rounding_m: float
) -> FittedRays:
    """`directions` are unit vectors; origins closer together than `rounding_m` are one point.

    Raises ValueError where the rays are those of no camera.
    """
    height, width = directions.shape[:2]
    camera = _nearest_pinhole(directions)
    cam_directions = camera_directions(camera, width, height).astype(np.float64)
    rotation = _rotation(cam_directions, directions)
    center = origins_m.reshape(-1, 3).mean(axis=0)
    world_from_cam = np.concatenate([rotation, center[:, None]], axis=1)
    in_cam = directions @ rotation
    offsets_m = (origins_m - center) @ rotation
    one_origin = np.abs(offsets_m).max() <= rounding_m
    if one_origin and np.abs(in_cam - cam_directions).max() <= _ROUNDING:
        return FittedRays(camera, world_from_cam, None)
    table = in_cam if one_origin else np.concatenate([in_cam, offsets_m], axis=2)
    return FittedRays(camera, world_from_cam, table.astype(np.float32))


def _nearest_pinhole(directions: np.ndarray) -> Camera:
    """Least squares for H in direction ~ H (u, v, 1); H = rotation K^-1, which a QR decomposition takes apart."""
    height, width = directions.shape[:2]
    rows = np.unique(np.linspace(0, height - 1, _GRID).round().astype(int))
    columns = np.unique(np.linspace(0, width - 1, _GRID).round().astype(int))
    ys, xs = np.meshgrid(rows, columns, indexing="ij")
    seen = directions[ys, xs].reshape(-1, 3)
    normalise = np.array([[2 / width, 0, -1], [0, 2 / height, -1], [0, 0, 1]])
    points = np.stack([xs.ravel() + 0.5, ys.ravel() + 0.5, np.ones(xs.size)], axis=1) @ normalise.T
    x, y, z = seen.T
    zero = np.zeros_like(x)
    cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=1).reshape(-1, 3, 3)
    equations = np.einsum("nij,nk->nijk", cross, points).reshape(-1, 9)
    h = np.linalg.svd(equations, full_matrices=False)[2][-1].reshape(3, 3) @ normalise
    h *= np.sign(np.linalg.det(h))
    upper = np.linalg.qr(h)[1]
    upper *= np.sign(np.diag(upper))[:, None]
    if not abs(np.linalg.det(upper)) > 1e-12 * np.abs(upper).max() ** 3:
        raise ValueError("its rays are those of no camera")
    k = np.linalg.inv(upper / upper[2, 2])
    params = (float(f"{value:.{_DIGITS}g}") for value in (k[0, 0], k[1, 1], k[0, 2], k[1, 2]))
    return Camera("PINHOLE", width, height, tuple(params))


def _rotation(cam_directions: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """The rotation that turns one set of directions into the other, least squares (Kabsch 1976)."""
    left, _, right = np.linalg.svd(directions.reshape(-1, 3).T @ cam_directions.reshape(-1, 3))
    handed = np.diag([1, 1, np.linalg.det(left @ right)])
    return left @ handed @ right
