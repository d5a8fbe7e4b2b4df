"""Trajectories: the images that one camera took one after the other, and places between them.

A held-out image or a new view gets the look of its neighbours on a trajectory. That means something only where
neighbours in the order are also near: photographs of strangers have an order of names, too. So each drive's order is
compared with its poses first.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float64

from blocknerf.core.types import Appearance, TrajectoryPoint
from blocknerf.scene.scene import ImageRecord, poses_of

NEAR = 0.5
"""In an order, the mean step from image to image is at most this share of the mean way between any two, in place or
in viewing direction. Without an order it is about 1, and for n images along a straight line 3 / (n + 1). Captures of
one camera have 0.06 to 0.2, photographs from the internet 0.7 to 0.8."""
LEAST_IMAGES = 5
"""Fewer may be in order by chance."""
STEPS_PER_UNIT = 4.0
"""Steps between images that count as much as one unit between viewing directions, which is about a radian."""
_MOST_COMPARED = 512


@dataclass(frozen=True, slots=True)
class _Trajectory:
    name: str
    image_ids: tuple[str, ...]
    moments: tuple[float, ...]
    poses: Float64[np.ndarray, "images 3 4"]  # world_from_cam

    @staticmethod
    def of(name: str, images: Sequence[ImageRecord]) -> "_Trajectory":
        ordered = sorted(images, key=lambda image: (image.moment, image.name))
        ids, moments = zip(*((image.id, image.moment) for image in ordered), strict=True)
        return _Trajectory(name, ids, moments, poses_of(ordered).astype(np.float64))

    def point(self, moment: float) -> TrajectoryPoint:
        """`moment` may be between images, or beyond the ends."""
        return TrajectoryPoint(self.image_ids, self.moments, moment)

    def steps(self, column: int) -> Float64[np.ndarray, " steps"]:
        """From image to image: between positions in metres (column 3 of a pose), or viewing directions (2)."""
        return np.linalg.norm(np.diff(self.poses[:, :, column], axis=0), axis=1)


@dataclass(frozen=True, slots=True)
class Trajectories:
    """Those of a scene's drives. `unordered` says of each other drive why it has none."""

    of_drive: dict[str, tuple[_Trajectory, ...]]
    unordered: dict[str, str]

    @staticmethod
    def of(images: Sequence[ImageRecord]) -> "Trajectories":
        """Of the images of a scene, in any order; all of a drive have an order, or none.

        Held-out images may be among them, for nothing is read but poses, names and times; and a block knows the looks
        of its training images alone, so neighbours on a trajectory are always of these.
        """
        members: dict[str, list[ImageRecord]] = {}
        for image in images:
            members.setdefault(image.drive, []).append(image)
        found = {drive: _trajectories(members[drive]) for drive in sorted(members)}
        reasons = {drive: _why_unordered(members[drive], one) for drive, one in found.items()}
        return Trajectories(
            {drive: one for drive, one in found.items() if reasons[drive] is None},
            {drive: reason for drive, reason in reasons.items() if reason is not None},
        )

    def point_of(self, image: ImageRecord) -> TrajectoryPoint | None:
        """The place of a held-out image, by its time or its name; None where there is no order."""
        same = (one for one in self.of_drive.get(image.drive, ()) if one.name == image.trajectory)
        trajectory = next(same, None)
        return None if trajectory is None else trajectory.point(image.moment)

    def appearance_near(self, world_from_cam: Float64[np.ndarray, "3 4"], drive: str | None) -> Appearance:
        """The look of a new view: that of the nearest place on a trajectory of `drive`.

        Nearest by position and viewing direction: see STEPS_PER_UNIT. That of the drive where there is no order.
        """
        known = () if drive is None else self.of_drive.get(drive, ())
        lines = [one for one in known if len(one.moments) > 1]
        if not lines:
            return Appearance(drive=drive)
        unit_m = STEPS_PER_UNIT * float(np.concatenate([one.steps(3) for one in lines]).mean())
        view = _coordinates(world_from_cam[None], unit_m)[0]
        places = [(*_nearest(view, _coordinates(one.poses, unit_m)), one) for one in lines]
        _, row, share, nearest = min(places, key=lambda place: place[0])
        start, end = nearest.moments[row], nearest.moments[row + 1]
        return Appearance(drive=drive, trajectory_point=nearest.point(start + share * (end - start)))

    def adjacent(self, image_ids: Collection[str]) -> list[tuple[str, str]]:
        """Those of `image_ids` that follow each other on a trajectory, if the others are left out."""
        wanted = set(image_ids)
        known = [one for trajectories in self.of_drive.values() for one in trajectories]
        kept = [[name for name in one.image_ids if name in wanted] for one in known]
        return [pair for ids in kept for pair in pairwise(ids)]

    def without_order(self, drives: Collection[str | None]) -> list[str]:
        """A sentence for each of these drives whose images have no order, so that only their mean code is left."""
        missing = sorted(drive for drive in self.unordered if drive in drives)
        return [f"Drive {drive} has no order to interpolate along: {self.unordered[drive]}." for drive in missing]


NO_TRAJECTORIES = Trajectories({}, {})


def _trajectories(images: Sequence[ImageRecord]) -> tuple[_Trajectory, ...]:
    named: dict[str, list[ImageRecord]] = {}
    for image in images:
        if image.trajectory is not None:
            named.setdefault(image.trajectory, []).append(image)
    return tuple(_Trajectory.of(name, named[name]) for name in sorted(named))


def _why_unordered(images: Sequence[ImageRecord], trajectories: Sequence[_Trajectory]) -> str | None:
    """Why the order of a drive's images tells nothing; None if it does."""
    if len(images) < LEAST_IMAGES:
        return f"fewer than {LEAST_IMAGES} images may be in order by chance"
    if all(len(one.moments) < 2 for one in trajectories):
        return "neither names nor times tell which images follow each other"
    ordered = sorted(images, key=lambda image: (image.trajectory or "", image.moment))
    poses = poses_of(ordered[:: len(ordered) // _MOST_COMPARED + 1])
    for column in (3, 2):
        apart = _mean_distance(poses[:, :, column])
        if apart > 0 and np.concatenate([one.steps(column) for one in trajectories]).mean() <= NEAR * apart:
            return None
    return "images that follow each other are hardly nearer than any two"


def _mean_distance(points: Float64[np.ndarray, "images 3"]) -> float:
    """Between any two of the points."""
    count = len(points)
    total = sum(float(np.linalg.norm(points - point, axis=1).sum()) for point in points)
    return total / (count * (count - 1))


def _coordinates(poses: Float64[np.ndarray, "views 3 4"], unit_m: float) -> Float64[np.ndarray, "views 6"]:
    """Position in units, and viewing direction; no position if cameras do not move."""
    positions = poses[:, :, 3] / unit_m if unit_m > 0 else np.zeros((len(poses), 3))
    return np.concatenate([positions, poses[:, :, 2]], axis=1)


def _nearest(view: Float64[np.ndarray, "6"], line: Float64[np.ndarray, "images 6"]) -> tuple[float, int, float]:
    """The nearest place on a polyline: its squared distance, the row of the corner before it, and the share of the way
    from that to the next."""
    edges = np.diff(line, axis=0)
    lengths = np.maximum(np.square(edges).sum(1), np.finfo(np.float64).tiny)
    shares = np.clip(((view - line[:-1]) * edges).sum(1) / lengths, 0, 1)
    distances = np.square(view - line[:-1] - shares[:, None] * edges).sum(1)
    row = int(distances.argmin())
    return float(distances[row]), row, float(shares[row])
