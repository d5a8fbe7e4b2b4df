"""How far an object extends that photographs show without what is around it, from its silhouettes alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from blocknerf.blocks.extent import Cube, passing_m
from blocknerf.core.camera import Camera
from blocknerf.core.progress import bar
from blocknerf.scene.photographs import DECODE_ERRORS, dilated, read_masks, read_silhouette
from blocknerf.scene.rays import directions_at, pixels_of
from blocknerf.scene.scene import ImageRecord, Scene

_MOST_LOOKED_AT = 64
"""Maximum number of photographs; of more, every nth is used."""
_LONGEST_SIDE_PX = 200
_CELLS = (32, 64, 64)
"""Along each side of the cube that is carved, first between the cameras, then around what was left."""
_MOST_WRONG = 0.05
"""Share of the photographs that may show a part of the object as transparent: poses and masks have errors."""
_MOST_OUTSIDE = 0.001
"""Share of the opaque pixels."""
_MOST_AT_SIDES = 0.02
"""Share of the pixels at the sides of a picture."""


@dataclass(frozen=True, slots=True)
class Silhouette:
    """A camera, and which parts of its picture (in any size) are not transparent."""

    camera: Camera
    frame_from_cam: Float[np.ndarray, "3 4"]
    is_opaque: Bool[np.ndarray, "h w"]

    @property
    def scale(self) -> Float[np.ndarray, "2"]:
        """Its pixels for each of the camera's, along x and y."""
        height, width = self.is_opaque.shape
        return np.array([width / self.camera.width, height / self.camera.height])

    @property
    def is_whole(self) -> bool:
        """Whether it shows an object that hardly touches the sides of the picture."""
        sides = (self.is_opaque[0], self.is_opaque[-1], self.is_opaque[:, 0], self.is_opaque[:, -1])
        return bool(self.is_opaque.any() and np.concatenate(sides).mean() <= _MOST_AT_SIDES)


def silhouettes_of(scene: Scene, images: Sequence[ImageRecord], poses: Float[np.ndarray, "n 3 4"]) -> list[Silhouette]:
    """Of evenly chosen images, as far as they can be decoded. `poses` are frame_from_cam.

    What a mask hides may be anything, and counts as opaque.
    """
    found = []
    step = len(images) // _MOST_LOOKED_AT + 1
    with bar("looking at silhouettes", len(images[::step])) as progress:
        for image, pose in zip(images[::step], poses[::step], strict=True):
            progress.advance()
            try:
                is_opaque = read_silhouette(image.path, image.orientation, _LONGEST_SIDE_PX)
                height, width = is_opaque.shape
                kept = read_masks(image.mask_paths, (width, height), image.orientation)
            except DECODE_ERRORS:
                continue  # training names it
            is_opaque = is_opaque if kept is None else is_opaque | ~kept
            found.append(Silhouette(scene.cameras[image.camera_key], pose, is_opaque))
    return found


def bounded_cube(silhouettes: Sequence[Silhouette], focus: Float[np.ndarray, "3"]) -> Cube | None:
    """Around the ball that holds the object: what is left of a larger cube when all that is seen as transparent is
    carved away (the visual hull: Laurentini 1994).

    The larger cube is centred on `focus`, the point that the cameras surround, and reaches as far as most cameras. None
    if most pictures show only a part of the object, or any shows what is not in the ball.
    """
    whole = [each for each in silhouettes if each.is_whole]
    if len(whole) <= len(silhouettes) / 2:
        return None
    half_m = float(np.median([np.linalg.norm(each.frame_from_cam[:, 3] - focus) for each in whole]))
    center, radius_m = focus, 0.0
    for count in _CELLS:
        cells = _carved(whole, center, half_m, count)
        if len(cells) == 0:
            return None
        corner_m = np.sqrt(3) * half_m / count
        low, high = cells.min(axis=0), cells.max(axis=0)
        center, half_m = (low + high) / 2, float((high - low).max()) / 2 + corner_m
        radius_m = float(np.linalg.norm(cells - center, axis=1).max() + corner_m)
    return Cube(center, radius_m, bounded=True) if _holds_all(silhouettes, center, radius_m) else None


def _holds_all(silhouettes: Sequence[Silhouette], center: np.ndarray, radius_m: float) -> bool:
    """Whether the rays of nearly all opaque pixels meet the ball."""
    meet, all_opaque = 0, 0
    for each in silhouettes:
        rows, columns = np.nonzero(each.is_opaque)
        directions = directions_at(each.camera, (np.stack([columns, rows], axis=1) + 0.5) / each.scale)
        meet += int((passing_m(each.frame_from_cam, directions, center) < radius_m).sum())
        all_opaque += len(rows)
    return meet >= (1 - _MOST_OUTSIDE) * all_opaque


def _carved(
    silhouettes: Sequence[Silhouette], center: np.ndarray, half_m: float, count: int
) -> Float[np.ndarray, "cells 3"]:
    """Centres of the cells of a cube that hardly any picture shows as transparent or does not show."""
    steps = half_m * ((2 * np.arange(count) + 1) / count - 1)
    cells = center + np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    missed = np.zeros(len(cells), np.int64)
    for silhouette in silhouettes:
        missed += ~_may_be_opaque(silhouette, cells, np.sqrt(3) * half_m / count)
        is_left = missed <= _MOST_WRONG * len(silhouettes)
        cells, missed = cells[is_left], missed[is_left]
        if len(cells) == 0:
            break
    return cells


def _may_be_opaque(silhouette: Silhouette, cells: np.ndarray, radius_m: float) -> Bool[np.ndarray, " cells"]:
    """Which cells are opaque in the picture, anywhere within `radius_m` of their centre.

    The silhouette is widened by the size of a cell in the middle of the cells.
    """
    camera, pose, scale = silhouette.camera, silhouette.frame_from_cam, silhouette.scale
    in_camera = (cells - pose[:, 3]) @ pose[:, :3]
    middle = in_camera.mean(axis=0)
    begin_xy, end_xy = pixels_of(camera, np.stack([middle, middle + [radius_m, 0, 0]])) * scale
    reach_px = int(np.ceil(np.nan_to_num(np.abs(end_xy - begin_xy)[0])))
    widened = dilated(np.pad(silhouette.is_opaque, reach_px), reach_px)
    xy = np.floor(pixels_of(camera, in_camera) * scale) + reach_px
    inside = np.flatnonzero(((xy >= 0) & (xy < widened.shape[::-1])).all(axis=1))  # without NaN
    columns, rows = xy[inside].astype(np.int64).T
    is_opaque = np.zeros(len(cells), bool)
    is_opaque[inside] = widened[rows, columns]
    return is_opaque
