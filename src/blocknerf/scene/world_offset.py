"""Captures that are far from the origin (UTM, Gauss-Krueger, Earth-centred) are shifted when they are read.

Rays begin at float32 positions, which far from the origin are coarser than the distance between two cameras. So a whole
number of steps is subtracted from all positions and stored with the scene: capture = scene + offset. A plan and a city
store it, so that later images are shifted alike.
"""

import math
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from blocknerf.core.errors import UserError
from blocknerf.core.logging import log
from blocknerf.scene.scene import NO_OFFSET, Offset, Scene

_ROUNDING = 2.0**-24
_SHARE_OF_SPACING = 1e-3


def near_origin(scene: Scene, known_offset_m: Offset | None = None) -> Scene:
    """The scene, shifted if it is too far away: by `known_offset_m` if that is enough, else by a new offset.

    Raises UserError if it is too wide for any.
    """
    centers = scene.centers_world
    offset_m = NO_OFFSET if known_offset_m is None else known_offset_m
    if is_far(centers - offset_m):
        offset_m = offset_of(centers)
        if is_far(centers - offset_m):
            raise UserError(
                f"The cameras of {scene.root} stand too far apart for 32-bit numbers: {_text(centers.min(axis=0))} to "
                f"{_text(centers.max(axis=0))}. Leave out those that stand astray, or read a part of the capture with "
                "dataset.scene_bounds."
            )
    if offset_m == NO_OFFSET:
        return scene
    log.info(
        "The cameras of %s stand around %s, too far from the origin for 32-bit numbers: %s is subtracted from all "
        "positions, and stored beside every file that is written.",
        scene.root,
        _text(np.median(centers, axis=0)),
        _text(np.array(offset_m)),
    )
    images = []
    for image in scene.images:
        world_from_cam = image.world_from_cam.copy()
        world_from_cam[:, 3] -= offset_m
        images.append(replace(image, world_from_cam=world_from_cam))
    return replace(
        scene, images=tuple(images), points_world=scene.points_world - np.array(offset_m), world_offset_m=offset_m
    )


def is_far(centers_world: Float[np.ndarray, "n 3"]) -> bool:
    """Whether float32 rounds at the cameras by more than a thousandth of their typical spacing, extent / sqrt(n).

    False for cameras that are all in one place.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        centroid = centers_world.mean(axis=0)
        distance = float(np.linalg.norm(centroid))
        extent = float(np.linalg.norm(centers_world - centroid, axis=1).max())
    spacing = extent / math.sqrt(len(centers_world))
    return extent > 1e-9 * distance and distance * _ROUNDING > _SHARE_OF_SPACING * spacing


def offset_of(centers_world: Float[np.ndarray, "n 3"]) -> Offset:
    """The middle of the cameras in whole steps of the smallest power of ten that is at least their spread."""
    middle = np.median(centers_world, axis=0)
    extent = float(np.median(np.linalg.norm(centers_world - middle, axis=1)))
    step = 10.0 ** math.ceil(math.log10(extent or 1.0))
    x, y, z = (float(round(value / step) * step) for value in middle.tolist())
    return (x, y, z)


def _text(place: np.ndarray) -> str:
    return f"({', '.join(f'{value:.10g}' for value in place.tolist())})"
