"""Sparse points like those of structure from motion, but exact: surface points and the images that see them."""

from dataclasses import dataclass

import numpy as np

from blocknerf.core.camera import Camera


@dataclass(frozen=True, slots=True)
class Shot:
    """One finished picture with its ground truth."""

    name: str
    drive: str
    place: str  # on the rig: the key of its camera
    hour: float
    exposure: float
    world_from_cam: np.ndarray  # [3, 4]
    rgb: np.ndarray  # [H, W, 3] uint8
    depth_z_m: np.ndarray  # [H, W] float32, 0 is sky
    moving: np.ndarray  # [H, W] bool


@dataclass(frozen=True, slots=True)
class SparsePoints:
    """`tracks[i]` lists (shot, observation) of point i; `observations[s]` lists (x, y, point) of shot s."""

    points_world: np.ndarray  # [P, 3] float64
    points_rgb: np.ndarray  # [P, 3] uint8
    tracks: list[list[tuple[int, int]]]
    observations: list[list[tuple[float, float, int]]]


def sample_points(
    shots: list[Shot], cameras: dict[str, Camera], per_shot: int, rng: np.random.Generator, farthest_m: float = 60.0
) -> SparsePoints:
    """Random static surface points of every shot; those that at least two shots see are kept."""
    points, colours = [], []
    for shot in shots:
        usable = np.flatnonzero((shot.depth_z_m > 0) & (shot.depth_z_m < farthest_m) & ~shot.moving)
        chosen = rng.choice(usable, min(per_shot, len(usable)), replace=False)
        row, column = np.divmod(chosen, shot.depth_z_m.shape[1])
        points.append(_lift(shot, cameras[shot.place], column, row))
        colours.append(shot.rgb[row, column])
    points_world, points_rgb = np.concatenate(points), np.concatenate(colours)
    seen = [visible_points(points_world, shot, cameras[shot.place]) for shot in shots]
    counts = np.bincount(np.concatenate([index for index, _ in seen]), minlength=len(points_world))
    kept = np.flatnonzero(counts >= 2)
    renumbered = np.full(len(points_world), -1)
    renumbered[kept] = np.arange(len(kept))
    tracks: list[list[tuple[int, int]]] = [[] for _ in kept]
    observations: list[list[tuple[float, float, int]]] = []
    for number, (index, pixels_xy) in enumerate(seen):
        new = renumbered[index]
        keypoints = [(float(x), float(y), int(i)) for (x, y), i in zip(pixels_xy, new, strict=True) if i >= 0]
        for place, (_, _, point) in enumerate(keypoints):
            tracks[point].append((number, place))
        observations.append(keypoints)
    return SparsePoints(points_world[kept], points_rgb[kept], tracks, observations)


def visible_points(points_world: np.ndarray, shot: Shot, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """Which points a shot sees, and where: (index [V], pixels_xy [V, 2]).

    A point is seen if the depth map agrees within 2 % + 2 cm. Inverse depth is interpolated, because it is linear in
    the picture of a plane.
    """
    in_cam = (points_world - shot.world_from_cam[:, 3]) @ shot.world_from_cam[:, :3]
    fx, fy, cx, cy = camera.params
    z = np.where(in_cam[:, 2] > 0.1, in_cam[:, 2], np.inf)
    pixels_xy = np.stack([fx * in_cam[:, 0] / z + cx, fy * in_cam[:, 1] / z + cy], 1)
    inside = np.isfinite(z) & np.all((pixels_xy > 0.5) & (pixels_xy < (camera.width - 0.5, camera.height - 0.5)), 1)
    index = np.flatnonzero(inside)
    surface_z = _interpolated_depth(shot, pixels_xy[index])
    agrees = np.abs(surface_z - z[index]) < 0.02 * z[index] + 0.02
    return index[agrees], pixels_xy[index[agrees]]


def _interpolated_depth(shot: Shot, pixels_xy: np.ndarray) -> np.ndarray:
    """Depth between the centres of four pixels; NaN if one of them is sky or moving."""
    still = np.where((shot.depth_z_m > 0) & ~shot.moving, shot.depth_z_m, np.nan)
    corner = np.floor(pixels_xy - 0.5).astype(int)
    fx, fy = (pixels_xy - 0.5 - corner).T
    x, y = corner.T
    inverse = 1.0 / still
    above = (1 - fx) * inverse[y, x] + fx * inverse[y, x + 1]
    below = (1 - fx) * inverse[y + 1, x] + fx * inverse[y + 1, x + 1]
    return 1.0 / ((1 - fy) * above + fy * below)


def _lift(shot: Shot, camera: Camera, column: np.ndarray, row: np.ndarray) -> np.ndarray:
    """World points [N, 3] of pixel centres, from the depth map."""
    fx, fy, cx, cy = camera.params
    z = shot.depth_z_m[row, column].astype(np.float64)
    in_cam = np.stack([(column + 0.5 - cx) / fx * z, (row + 0.5 - cy) / fy * z, z], 1)
    return in_cam @ shot.world_from_cam[:, :3].T + shot.world_from_cam[:, 3]
