"""The cube of a block, inside which its contraction is the identity."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from blocknerf.blocks.image_visibility import focus_point

_PERCENTILES = (5.0, 95.0)
_OBJECT_PERCENTILE = 90.0
_SMALLEST_SHARE = 0.1  # of the limit's half edge


@dataclass(frozen=True, slots=True)
class Cube:
    """Centre in the ground frame, half edge in metres."""

    center: Float[np.ndarray, "3"]
    radius_m: float
    bounded: bool = False
    """Whether nothing is outside of the ball that touches its sides."""


def orbit_cube(poses: Float[np.ndarray, "n 3 4"]) -> Cube | None:
    """For one block without sparse points: around the point that the cameras surround, as far as 95 % of them.

    None where they surround no point. `poses` are ground_from_cam.
    """
    focus = focus_point(poses)
    if focus is None:
        return None
    return Cube(focus, float(np.percentile(np.linalg.norm(poses[:, :, 3] - focus, axis=1), 95)))


def object_cube(poses: Float[np.ndarray, "n 3 4"], rays: Sequence[Float[np.ndarray, "_ 3"]]) -> Cube | None:
    """For one block of an object in pictures without background: around the point that the cameras surround, as far as
    they see it together.

    The radius is the distance at which nine tenths of the pixels look past that point. An object that fits into all
    pictures fits into the cube: a square picture has its edges at the distance of eight tenths. What pixels see behind
    their camera counts as far as the camera.

    None where they surround no point. `poses` are ground_from_cam; `rays` are evenly spread unit directions of each
    camera, in its axes.
    """
    focus = focus_point(poses)
    if focus is None:
        return None
    distances_m = [passing_m(pose, directions, focus) for pose, directions in zip(poses, rays, strict=True)]
    return Cube(focus, float(np.percentile(np.concatenate(distances_m), _OBJECT_PERCENTILE)))


def passing_m(
    pose: Float[np.ndarray, "3 4"], directions: Float[np.ndarray, "n 3"], point: Float[np.ndarray, "3"]
) -> Float[np.ndarray, " n"]:
    """How near the rays of a camera, with unit directions in its axes, come to a point of the frame of its pose."""
    offset = (point - pose[:, 3]) @ pose[:, :3]
    along_m = np.maximum(directions @ offset, 0)
    return np.linalg.norm(offset - along_m[:, None] * directions, axis=1)


def content_cube(
    cameras: Float[np.ndarray, "n 3"],
    places: Float[np.ndarray, "m 3"],
    low_xy: Float[np.ndarray, "2"],
    high_xy: Float[np.ndarray, "2"],
) -> Cube:
    """The cube around what a block holds, inside the rectangle low_xy..high_xy (its cells with their overlap).

    What it holds: the box of the 5th to 95th percentile of `places`, those seen within the rectangle, widened so that
    evenly spread places fill theirs; joined with the same box of the cameras in the rectangle, without those that
    hover above or below those places by more than a quarter of the rectangle (from the air the cube belongs to the
    ground).
    The box is cut to the rectangle; its longest side gives the cube. Never below a tenth of the rectangle.
    """
    limit_m = float((high_xy - low_xy).max()) / 2
    boxes = [_robust_box(places)] if len(places) else []
    standing = _inside(cameras, low_xy, high_xy)
    if boxes:
        (_, _, lowest), (_, _, highest) = boxes[0]
        heights = standing[:, 2]
        standing = standing[(heights >= lowest - limit_m / 2) & (heights <= highest + limit_m / 2)]
    if len(standing):
        boxes.append(_robust_box(standing))
    if not boxes:
        middle = np.append((low_xy + high_xy) / 2, np.median(cameras[:, 2]))
        return Cube(middle, limit_m)
    low, high = np.min([box[0] for box in boxes], axis=0), np.max([box[1] for box in boxes], axis=0)
    low[:2], high[:2] = np.maximum(low[:2], low_xy), np.minimum(high[:2], high_xy)
    radius_m = float((high - low).max()) / 2
    return Cube((low + high) / 2, float(np.clip(radius_m, _SMALLEST_SHARE * limit_m, limit_m)))


def _inside(points: np.ndarray, low_xy: np.ndarray, high_xy: np.ndarray) -> np.ndarray:
    return points[np.all((points[:, :2] >= low_xy) & (points[:, :2] <= high_xy), axis=1)]


def _robust_box(points: np.ndarray) -> np.ndarray:
    """Corners [2, 3] of the percentile box, widened by the share of the range that the percentiles cut off."""
    columns = np.ascontiguousarray(points.T)
    low, high = np.percentile(columns, _PERCENTILES, axis=1)
    widen = (high - low) * (100 / (_PERCENTILES[1] - _PERCENTILES[0]) - 1) / 2
    return np.stack([np.maximum(low - widen, columns.min(axis=1)), np.minimum(high + widen, columns.max(axis=1))])
