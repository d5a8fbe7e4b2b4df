"""Exposures as captured become stops around a scene's mean: once per scene, the same for every block."""

import math
from collections.abc import Sequence

from blocknerf.core.types import MEAN_EXPOSURE_VALUE, Exposures
from blocknerf.scene.scene import ImageRecord

LEAST_RANGE_STOPS = 0.01


def scene_exposures(train_images: Sequence[ImageRecord]) -> Exposures | None:
    """Exposures of the training images; None if fewer than two are known or all are equal.

    Units do not matter: captured values are divided by their geometric mean. A drive has the mean of its stops.
    """
    known = {image.id: math.log2(image.exposure) for image in train_images if image.exposure is not None}
    if len(known) < 2:
        return None
    mean = math.fsum(known.values()) / len(known)
    stops = {image_id: value - mean for image_id, value in known.items()}
    least, largest = min(stops.values()), max(stops.values())
    if largest - least < LEAST_RANGE_STOPS:
        return None
    of_drive: dict[str, list[float]] = {}
    for image in train_images:
        if image.id in stops:
            of_drive.setdefault(image.drive, []).append(stops[image.id])
    drives = {drive: math.fsum(values) / len(values) for drive, values in sorted(of_drive.items())}
    return Exposures(MEAN_EXPOSURE_VALUE / 2**mean, (least, largest), drives, stops)
