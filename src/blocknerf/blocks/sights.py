"""What every image sees of the ground: its sparse points, or where rays of a coarse pixel grid come to rest."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from blocknerf.blocks.ground import GroundFrame
from blocknerf.scene.rays import camera_directions
from blocknerf.scene.scene import Camera, ImageRecord, Scene

FEWEST_POINTS = 20
"""Images with fewer sparse points than this are judged by their frustum."""
_GRID = 8  # rays of a frustum: 8 x 8


@dataclass(frozen=True, slots=True)
class Sights:
    """Places in the ground frame, and who sees them: image `rows[i]` sees `places[seen[i]]`."""

    places: Float[np.ndarray, "places 3"]
    rows: Int[np.ndarray, " sights"]
    seen: Int[np.ndarray, " sights"]

    def of(self, images: Bool[np.ndarray, " images"]) -> Float[np.ndarray, "some 3"]:
        """The places that any of these images sees, each once."""
        wanted = np.zeros(len(self.places), bool)
        wanted[self.seen[images[self.rows]]] = True
        return self.places[wanted]


def gather_sights(
    scene: Scene, images: Sequence[ImageRecord], frame: GroundFrame, poses: Float[np.ndarray, "n 3 4"], open_m: float
) -> Sights:
    """Sparse points where an image has enough of them, else its frustum at the distance typical of the capture."""
    has_points = np.array([len(image.point_rows) >= FEWEST_POINTS for image in images])
    depths_m = typical_distances_m(scene, images, frame, poses, open_m)
    rows = [np.full(len(images[i].point_rows), i) for i in np.flatnonzero(has_points).tolist()]
    seen = [images[i].point_rows for i in np.flatnonzero(has_points).tolist()]
    places = [scene.points_world]
    for i in np.flatnonzero(~has_points).tolist():
        directions = frustum_directions(scene.cameras[images[i].camera_key]) @ poses[i, :, :3].T
        rows.append(np.full(len(directions), i))
        seen.append(sum(map(len, places)) + np.arange(len(directions)))
        places.append(poses[i, :, 3] + depths_m[i] * directions)
    return Sights(frame.to_ground(np.concatenate(places)), np.concatenate(rows), np.concatenate(seen))


def typical_distances_m(
    scene: Scene, images: Sequence[ImageRecord], frame: GroundFrame, poses: Float[np.ndarray, "n 3 4"], open_m: float
) -> Float[np.ndarray, " n"]:
    """How far from each camera surfaces stand, as a rule.

    The median distance of all sparse points from the cameras that see them; without points, the distance to the point
    that the optical axes surround; where they surround none, `open_m` or half the footprint's diagonal, whichever is
    smaller.
    """
    with_points = [i for i, image in enumerate(images) if len(image.point_rows) >= FEWEST_POINTS]
    if not with_points:
        return _distances_without_points(poses, min(open_m, np.hypot(*frame.extent_m) / 2))
    seen = [scene.points_world[images[i].point_rows] - poses[i, :, 3] for i in with_points]
    return np.full(len(images), np.median(np.linalg.norm(np.concatenate(seen), axis=1)))


def frustum_directions(camera: Camera) -> Float[np.ndarray, "rays 3"]:
    """Unit directions in the camera's frame of an even pixel grid, without those that its lens never sees."""
    directions = camera_directions(camera, _GRID, _GRID).reshape(-1, 3).astype(np.float64)
    return directions[~np.isnan(directions).any(axis=1)]


def focus_point(poses: Float[np.ndarray, "n 3 4"]) -> Float[np.ndarray, "3"] | None:
    """The point nearest to all optical axes (least squares), or None where the cameras do not surround one.

    They do when most have it before them, within 30 degrees of their axis.
    """
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
