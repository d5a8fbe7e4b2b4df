"""Segments of a drive: stretches of it without a gap. Block-NeRF (section 4.2.2) learns one offset of poses for each.

Consecutive images of one camera belong together, unless the distance between them, or the time if it is known, is more
than GAP times the usual. Images of several cameras belong together if they were taken at the same time. A segment is a
connected group of these. Units and origins of place and time do not matter.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from jaxtyping import Float64

from blocknerf.core.names import natural_order
from blocknerf.scene.scene import ImageRecord

GAP = 5.0
"""How many times as long as usual a gap is."""
_USUAL = 0.75
"""The quantile of steps that counts as usual: a vehicle may stand for most of its drive, and gaps are few."""
_NUMBER = re.compile(r"[0-9]+")
_LARGEST_NUMBER = 1e18
"""More than any clock in nanoseconds."""


def with_segments(
    images: Sequence[ImageRecord], moments: Mapping[str, float], names_tell_order: bool = True
) -> list[ImageRecord]:
    """The images, each with the name of its segment: its drive's, and where a drive has several, their first image's.

    Where an order is known, each also has its trajectory, which is named after its first image, and its moment in it.

    `moments` are by image id, in any unit. If not all images of a drive have one, the number in their names gives the
    order; of several numbers, the one that takes the most values. If names have no order either, images that are near
    one another belong together.
    """
    of_drive: dict[str, list[ImageRecord]] = {}
    for image in sorted(images, key=lambda image: natural_order(image.name)):
        of_drive.setdefault(image.drive, []).append(image)
    segment_of: dict[str, str] = {}
    order_of: dict[str, tuple[str, float]] = {}
    for drive, members in of_drive.items():
        centers = np.stack([image.world_from_cam[:, 3] for image in members])
        order = _order_by_moments(members, moments) or (_order_by_names(members) if names_tell_order else None)
        if order is None:
            groups = _near_one_another([_folder(image) for image in members], centers)
        else:
            groups = _connected(len(members), _links(order, centers))
        for rows in groups:
            name = drive if len(groups) == 1 else f"{drive}, from {members[rows[0]].name}"
            segment_of |= {members[row].id: name for row in rows}
        if order is not None:
            order_of |= _trajectories(order, members, segment_of)
    unordered = (None, 0.0)
    return [
        replace(image, segment=segment_of[image.id], trajectory=trajectory, moment=moment)
        for image in images
        for trajectory, moment in [order_of.get(image.id, unordered)]
    ]


@dataclass(frozen=True, slots=True)
class _Order:
    """The images of a drive in sequence, per camera."""

    ways: list[list[int]]
    moments: Float64[np.ndarray, " images"]
    is_timed: bool
    """Whether a long step of `moments` is a gap; numbers in names may have holes."""


def _order_by_moments(images: Sequence[ImageRecord], moments: Mapping[str, float]) -> _Order | None:
    if not all(image.id in moments for image in images):
        return None
    cameras = [f"{_folder(image)} {image.camera_key}" for image in images]
    return _ordered(cameras, np.array([moments[image.id] for image in images], np.float64), is_timed=True)


def _order_by_names(images: Sequence[ImageRecord]) -> _Order:
    """Cameras are the rest of the names without the number; a single camera if that rest differs for most images."""
    rows_of: dict[str, list[int]] = {}
    for row, image in enumerate(images):
        rows_of.setdefault(_NUMBER.sub("#", image.name), []).append(row)
    cameras, frames = [""] * len(images), np.zeros(len(images))
    for shape, rows in rows_of.items():
        numbers = np.array([_numbers(images[row].name) for row in rows])
        values = [len(np.unique(column)) for column in numbers.T]
        frame = int(np.argmax(values)) if values else 0
        frames[rows] = numbers[:, frame] if values else 0
        for row, others in zip(rows, np.delete(numbers, frame, 1) if values else numbers, strict=True):
            cameras[row] = f"{shape} {others.tolist()}"
    if 2 * len(set(cameras)) > len(images):
        cameras, frames = [""] * len(images), np.arange(len(images), dtype=np.float64)
    return _ordered(cameras, frames, is_timed=False)


def _numbers(name: str) -> list[float]:
    return [min(float(digits), _LARGEST_NUMBER) for digits in _NUMBER.findall(name)]


def _ordered(cameras: Sequence[str], moments: np.ndarray, is_timed: bool) -> _Order:
    ways: dict[str, list[int]] = {}
    rows: list[int] = np.argsort(moments, kind="stable").tolist()
    for row in rows:
        ways.setdefault(cameras[row], []).append(row)
    return _Order(list(ways.values()), moments, is_timed)


def _trajectories(
    order: _Order, images: Sequence[ImageRecord], segment_of: Mapping[str, str]
) -> dict[str, tuple[str, float]]:
    """By image id: the name of its trajectory, which is what one camera took of a segment, and its moment."""
    found: dict[str, tuple[str, float]] = {}
    for way in order.ways:
        first_of: dict[str, str] = {}
        for row in way:
            segment = segment_of[images[row].id]
            first = first_of.setdefault(segment, images[row].name)
            found[images[row].id] = f"{segment}, by {first}", float(order.moments[row])
    return found


def _links(order: _Order, centers: Float64[np.ndarray, "images 3"]) -> list[tuple[int, int]]:
    steps = np.array([pair for way in order.ways for pair in pairwise(way)], np.int64).reshape(-1, 2)
    if not len(steps):
        return list(pairwise(range(len(centers))))
    ways = np.linalg.norm(np.diff(centers[steps], axis=1)[:, 0], axis=1)
    times = np.diff(order.moments[steps], axis=1)[:, 0]
    usual_time = max(float(np.median(np.diff(order.moments[way]))) for way in order.ways if len(way) > 1)
    linked = ways <= GAP * _usual(ways)
    if order.is_timed:
        linked &= times <= GAP * usual_time
    everybody = np.argsort(order.moments, kind="stable")
    at_once = np.diff(order.moments[everybody]) <= usual_time / 2
    beside = zip(everybody[:-1][at_once].tolist(), everybody[1:][at_once].tolist(), strict=True)
    camera_of = {row: number for number, way in enumerate(order.ways) for row in way}
    return [
        *((int(a), int(b)) for a, b in steps[linked]),
        *((a, b) for a, b in beside if camera_of[a] != camera_of[b]),
    ]


def _usual(lengths: Float64[np.ndarray, " steps"]) -> float:
    return float(np.quantile(lengths, _USUAL, method="lower"))


def _connected(count: int, links: Sequence[tuple[int, int]]) -> list[list[int]]:
    """The rows of each connected component, in order of their first."""
    parent = list(range(count))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = row = parent[parent[row]]
        return row

    for a, b in links:
        one, other = sorted((root(a), root(b)))
        parent[other] = one
    groups: dict[int, list[int]] = {}
    for row in range(count):
        groups.setdefault(root(row), []).append(row)
    return list(groups.values())


def _near_one_another(cameras: Sequence[str], centers: Float64[np.ndarray, "images 3"]) -> list[list[int]]:
    """Groups of images none of which is farther from its next than GAP times the usual way from image to image."""
    rows_of: dict[str, list[int]] = {}
    for row, camera in enumerate(cameras):
        rows_of.setdefault(camera, []).append(row)
    nearest = [_nearest(centers[rows]) for rows in rows_of.values() if len(rows) > 1]
    reach = GAP * _usual(np.concatenate(nearest)) if nearest else np.inf
    left, groups = np.arange(len(centers)), []
    while len(left):
        group, border = [left[0]], [left[0]]
        left = left[1:]
        while border and len(left):
            near = np.linalg.norm(centers[left] - centers[border.pop()], axis=1) <= reach
            border += left[near].tolist()
            group += left[near].tolist()
            left = left[~near]
        groups.append(sorted(map(int, group)))
    return groups


def _nearest(centers: Float64[np.ndarray, "images 3"]) -> Float64[np.ndarray, " images"]:
    """From each to the nearest other."""
    nearest = np.empty(len(centers))
    for row, center in enumerate(centers):
        lengths = np.linalg.norm(centers - center, axis=1)
        lengths[row] = np.inf
        nearest[row] = lengths.min()
    return nearest


def _folder(image: ImageRecord) -> str:
    return image.name.rpartition("/")[0]
