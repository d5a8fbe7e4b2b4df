"""The ground under a capture: which way is up, and a flat frame in which blocks are laid out."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

_CENTRES_WEIGHT = 0.1  # the plane of the centres decides what the cameras' sideways axes leave open
_TILT_WEIGHT = 1e-4  # and the cameras' own up axes what both leave open (one camera, one straight line)
_DIRECTIONS = 32  # in which extreme points are found before the hull
_ROLL_SCALE = 0.1  # sine of a camera's roll from which its weight decreases


@dataclass(frozen=True, slots=True)
class GroundFrame:
    """Right-handed frame: x and y along the sides of the cameras' bounding rectangle, z up, its origin in the middle.

    `ground_from_world` is a rotation [3, 3]; lengths are those of the world. `extent_m` is the rectangle's size.
    """

    origin_world: Float[np.ndarray, "3"]
    ground_from_world: Float[np.ndarray, "3 3"]
    extent_m: tuple[float, float]

    def to_ground(self, points_world: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
        return (points_world - self.origin_world) @ self.ground_from_world.T

    def to_world(self, points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
        return points @ self.ground_from_world + self.origin_world


def ground_frame(world_from_cam: Float[np.ndarray, "n 3 4"]) -> GroundFrame:
    """The frame of a capture from its poses alone; it moves with the world when the world is moved rigidly."""
    centers = world_from_cam[:, :, 3]
    mean = centers.mean(axis=0)
    ground_from_world = _flat_axes(estimate_up(world_from_cam))
    flat = (centers - mean) @ ground_from_world.T
    turn, middle, extent = smallest_rectangle(flat[:, :2])
    height = np.median(flat[:, 2])
    origin = mean + ground_from_world.T @ np.append(middle, height)
    return GroundFrame(origin, _about_z(turn).T @ ground_from_world, extent)


def estimate_up(world_from_cam: Float[np.ndarray, "n 3 4"]) -> Float[np.ndarray, "3"]:
    """The direction most nearly perpendicular to every camera's sideways axis: people and drones keep the horizon
    level.

    The weight of rolled (portrait) cameras decreases gradually. For straight flights and drives, where all sideways
    axes are alike, the plane of the camera centres decides. The sign is that of the cameras' up axes or, if they look
    straight down, of the reversed optical axes.
    """
    right, down, forward = world_from_cam[:, :, 0], world_from_cam[:, :, 1], world_from_cam[:, :, 2]
    settled = _CENTRES_WEIGHT * _spread(world_from_cam[:, :, 3]) + _TILT_WEIGHT * _tilt(-down.mean(axis=0))
    weights, up = np.ones(len(right)), np.zeros(3)
    for _ in range(10):
        sideways = np.einsum("n,ni,nj->ij", weights, right, right) / weights.sum()
        up = np.linalg.eigh(sideways + settled)[1][:, 0]
        weights = 1 / (1 + ((right @ up) / _ROLL_SCALE) ** 2)
    side = -(down + 0.5 * forward).mean(axis=0) @ up
    return up if side >= 0 else -up


def _spread(centers: np.ndarray) -> np.ndarray:
    offsets = centers - centers.mean(axis=0)
    covariance = offsets.T @ offsets
    total = np.trace(covariance)
    return covariance / total if total > 0 else covariance


def _tilt(mean_up: np.ndarray) -> np.ndarray:
    return (mean_up @ mean_up) * np.eye(3) - np.outer(mean_up, mean_up)


def _flat_axes(up: np.ndarray) -> np.ndarray:
    """Rows: the world's x (its y where x stands upright) laid flat, the axis left of it, up."""
    across = np.eye(3)[0 if abs(up[0]) < 0.9 else 1]
    across = across - (across @ up) * up
    across /= np.linalg.norm(across)
    return np.stack([across, np.cross(up, across), up])


def _about_z(angle_rad: float) -> np.ndarray:
    c, s = np.cos(angle_rad), np.sin(angle_rad)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def smallest_rectangle(xy: Float[np.ndarray, "n 2"]) -> tuple[float, np.ndarray, tuple[float, float]]:
    """The rectangle of least area around points: its turn in (-45, 45] degrees as radians, its middle, its size.

    One side of it lies along an edge of the convex hull (Freeman and Shapira 1975). Equal areas: the least turn.
    """
    hull = _convex_hull(xy)
    edges = np.roll(hull, -1, axis=0) - hull
    edges = edges[np.linalg.norm(edges, axis=1) > 0]
    angles = np.arctan2(edges[:, 1], edges[:, 0]) if len(edges) else np.zeros(1)
    angles = np.pi / 4 - np.mod(np.pi / 4 - angles, np.pi / 2)
    axes = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    along, across = axes @ hull.T, axes @ np.stack([hull[:, 1], -hull[:, 0]])
    sizes = np.stack([np.ptp(along, axis=1), np.ptp(across, axis=1)], axis=-1)
    areas = sizes.prod(axis=1)
    near_least = np.flatnonzero(areas <= areas.min() + 1e-6 * areas.max())
    best = near_least[np.argmin(np.round(np.abs(angles[near_least]), 9))]
    turn = float(angles[best])
    in_rectangle = np.array([along[best].min() + along[best].max(), across[best].min() + across[best].max()]) / 2
    return turn, _about_z(turn)[:2, :2] @ in_rectangle, (float(sizes[best, 0]), float(sizes[best, 1]))


def _convex_hull(xy: np.ndarray) -> np.ndarray:
    """Andrew's monotone chain: corners counter-clockwise, without points on straight edges."""
    points = np.unique(_outer(xy) if len(xy) > _DIRECTIONS else xy, axis=0)
    if len(points) < 3:
        return points
    return np.array(_half_hull(points) + _half_hull(points[::-1]))


def _outer(xy: np.ndarray) -> np.ndarray:
    """Without those that lie well inside the polygon of the extreme points in some directions (Akl, Toussaint 1978)."""
    angles = np.linspace(0, 2 * np.pi, _DIRECTIONS, endpoint=False)
    corners = xy[[int(np.argmax(xy @ axis)) for axis in np.stack([np.cos(angles), np.sin(angles)], axis=-1)]]
    margin = 1e-9 * np.ptp(xy, axis=0).prod()
    is_inside = np.ones(len(xy), bool)
    for a, b in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if (a != b).any():
            is_inside &= (b[0] - a[0]) * (xy[:, 1] - a[1]) - (b[1] - a[1]) * (xy[:, 0] - a[0]) > margin
    return xy[~is_inside]


def _half_hull(points: np.ndarray) -> list[np.ndarray]:
    chain: list[np.ndarray] = []
    for point in points:
        while len(chain) >= 2 and _turns_right(chain[-2], chain[-1], point):
            chain.pop()
        chain.append(point)
    return chain[:-1]


def _turns_right(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> bool:
    return bool((b[0] - a[0]) * (c[1] - a[1]) <= (b[1] - a[1]) * (c[0] - a[0]))
