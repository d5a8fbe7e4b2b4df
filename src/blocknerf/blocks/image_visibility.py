"""What every image sees of the ground: its sparse points, or the ends of rays of a coarse pixel grid."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from blocknerf.blocks.cells_numba import frustum_places
from blocknerf.blocks.ground import GroundFrame
from blocknerf.core.camera import Camera
from blocknerf.scene.rays import camera_directions
from blocknerf.scene.scene import ImageRecord, Scene

FEWEST_POINTS = 20
"""Images with fewer sparse points than this use their frustum instead."""
_GRID = 8  # rays of a frustum: 8 x 8


EVERYWHERE = np.full(2, np.inf)
_PART = 1 << 14  # images whose places are held at a time


@dataclass(frozen=True, slots=True)
class Frusta:
    """Rays of images that use their frustum, a set per camera; their places are computed when needed."""

    directions: Float[np.ndarray, "rays 3"]  # unit, camera axes, camera after camera
    begin: Int[np.ndarray, " ends"]
    camera: Int[np.ndarray, " images"]  # number of each image's camera; its rays are begin[camera] ...
    poses: Float[np.ndarray, "images 3 4"]
    depths_m: Float[np.ndarray, " images"]
    frame: GroundFrame

    def places(
        self, images: Int[np.ndarray, " some"], low_xy: np.ndarray = -EVERYWHERE, high_xy: np.ndarray = EVERYWHERE
    ) -> Float[np.ndarray, "places 3"]:
        """Ends of their rays within a rectangle [2], in the ground frame, image after image."""
        places = np.empty((int(self.numbers(images).sum()) + 1, 3))
        number = frustum_places(
            images,
            self.camera,
            self.directions,
            self.begin,
            self.poses,
            self.depths_m,
            self.frame.ground_from_world,
            self.frame.origin_world,
            low_xy,
            high_xy,
            places,
        )
        return places[:number]

    def rays_of(self, images: Int[np.ndarray, " some"]) -> list[Float[np.ndarray, "_ 3"]]:
        """Directions of each image's rays, in the axes of its camera."""
        cameras = self.camera[images]
        ends = zip(self.begin[cameras].tolist(), self.begin[cameras + 1].tolist(), strict=True)
        return [self.directions[first:end] for first, end in ends]

    def numbers(self, images: Int[np.ndarray, " some"]) -> Int[np.ndarray, " some"]:
        return np.diff(self.begin)[self.camera[images]]


@dataclass(frozen=True, slots=True)
class ImageVisibility:
    """Places in the ground frame, and who sees them: image i sees `points[seen[begin[i] : begin[i + 1]]]`.

    An image without enough points of its own sees those of its frustum instead, where there are `frusta`.
    """

    points: Float[np.ndarray, "points 3"]
    begin: Int[np.ndarray, " ends"]
    seen: Int[np.ndarray, " sights"]
    frusta: Frusta | None

    def of(
        self, images: Int[np.ndarray, " some"], low_xy: np.ndarray = -EVERYWHERE, high_xy: np.ndarray = EVERYWHERE
    ) -> Float[np.ndarray, "places 3"]:
        """The places within a rectangle [2] that any of these images sees, each once."""
        numbers = np.diff(self.begin)[images]
        points = self.points[np.unique(self.seen[_ranges(self.begin[images], numbers)])]
        points = points[np.all((points[:, :2] >= low_xy) & (points[:, :2] <= high_xy), axis=1)]
        if self.frusta is None or numbers.all():
            return points
        places = self.frusta.places(images[numbers == 0], low_xy, high_xy)
        return np.concatenate([points, places]) if len(points) else places

    def parts(self) -> list[np.ndarray]:
        """The images that see anything, some at a time."""
        numbers = np.diff(self.begin)
        kinds = [np.flatnonzero(numbers)] + ([np.flatnonzero(numbers == 0)] if self.frusta else [])
        return [images[first : first + _PART] for images in kinds for first in range(0, len(images), _PART)]

    def of_each(
        self, images: Int[np.ndarray, " some"]
    ) -> tuple[Int[np.ndarray, " ends"], Float[np.ndarray, "places 2"]]:
        """(begin, xy) of one of `parts`: images[i] sees the places xy[begin[i] : begin[i + 1]] on the ground."""
        numbers = np.diff(self.begin)[images]
        if self.frusta is None or numbers.all():
            seen = self.seen[_ranges(self.begin[images], numbers)]
            return running(numbers), self.points[seen, :2]
        return running(self.frusta.numbers(images)), self.frusta.places(images)[:, :2]


def gather_sights(
    scene: Scene, images: Sequence[ImageRecord], frame: GroundFrame, poses: Float[np.ndarray, "n 3 4"], open_m: float
) -> ImageVisibility:
    """Sparse points if an image has enough of them, else its frustum at the typical distance of the capture."""
    seen = [image.point_rows for image in images if len(image.point_rows) >= FEWEST_POINTS]
    numbers = np.array([len(image.point_rows) for image in images], np.int64)
    numbers[numbers < FEWEST_POINTS] = 0
    depths_m = typical_distances_m(scene, images, frame, poses, open_m)
    number_of = {key: number for number, key in enumerate(scene.cameras)}
    rays = [frustum_directions(camera) for camera in scene.cameras.values()]
    frusta = Frusta(
        directions=np.concatenate(rays),
        begin=running([len(directions) for directions in rays]),
        camera=np.array([number_of[image.camera_key] for image in images], np.int64),
        poses=poses,
        depths_m=depths_m,
        frame=frame,
    )
    seen = np.concatenate([np.zeros(0, np.int64), *seen])
    return ImageVisibility(frame.to_ground(scene.points_world), running(numbers), seen, frusta)


def running(numbers: Sequence[int] | Int[np.ndarray, " n"]) -> Int[np.ndarray, " ends"]:
    """Where each of so many begins, and the end."""
    return np.concatenate([[0], np.cumsum(numbers)]).astype(np.int64)


def _ranges(first: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """first[0], first[0] + 1, ... numbers[0] of them, then those of first[1], and so on."""
    return np.arange(numbers.sum()) + np.repeat(first - running(numbers)[:-1], numbers)


def typical_distances_m(
    scene: Scene, images: Sequence[ImageRecord], frame: GroundFrame, poses: Float[np.ndarray, "n 3 4"], open_m: float
) -> Float[np.ndarray, " n"]:
    """Typical distance of surfaces from each camera.

    The median distance of all sparse points from the cameras that see them; without points, the distance to the point
    that the optical axes surround; where they surround none, half the footprint's diagonal or half the range of the
    cameras' heights, whichever is larger, but never more than `open_m`.
    """
    with_points = [i for i, image in enumerate(images) if len(image.point_rows) >= FEWEST_POINTS]
    if not with_points:
        size_m = max(np.hypot(*frame.extent_m), np.ptp(frame.to_ground(poses[:, :, 3])[:, 2]))
        return _distances_without_points(poses, min(open_m, size_m / 2))
    seen = [scene.points_world[images[i].point_rows] - poses[i, :, 3] for i in with_points]
    return np.full(len(images), np.median(np.linalg.norm(np.concatenate(seen), axis=1)))


def frustum_directions(camera: Camera) -> Float[np.ndarray, "rays 3"]:
    """Unit directions in the camera's frame of an even pixel grid, without those that its lens never sees."""
    directions = camera_directions(camera, _GRID, _GRID).reshape(-1, 3).astype(np.float64)
    return directions[~np.isnan(directions).any(axis=1)]


def focus_point(poses: Float[np.ndarray, "n 3 4"]) -> Float[np.ndarray, "3"] | None:
    """The point nearest to all optical axes (least squares), or None if the cameras do not surround one: most must have
    it in front of them, within 30 degrees of their axis."""
    centers, axes = poses[:, :, 3], poses[:, :, 2]
    across = np.eye(3) - axes[:, :, None] * axes[:, None, :]
    system = across.mean(axis=0)
    if np.linalg.eigvalsh(system)[0] < 0.02:  # axes nearly parallel: they meet nowhere in particular
        return None
    point = np.linalg.solve(system, np.einsum("nij,nj->i", across, centers) / len(centers))
    offsets = point - centers
    cosines = np.einsum("ni,ni->n", offsets, axes) / np.maximum(np.linalg.norm(offsets, axis=1), 1e-12)
    return point if np.mean(cosines > np.cos(np.pi / 6)) >= 0.7 else None


def _distances_without_points(poses: np.ndarray, open_m: float) -> np.ndarray:
    focus = focus_point(poses)
    if focus is None:
        return np.full(len(poses), open_m)
    return np.linalg.norm(focus - poses[:, :, 3], axis=1)
