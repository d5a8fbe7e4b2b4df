"""Undoes dataparser_transforms.json, by which nerfstudio moves and scales a scene before training."""

from pathlib import Path
from typing import Any

import numpy as np

from blocknerf.core.errors import UserError
from blocknerf.core.reading import read_json
from blocknerf.geometry.matrices import is_rotation
from blocknerf.geometry.similarity import Similarity

TRANSFORMS_NAME = "dataparser_transforms.json"


def transforms_beside(path: Path) -> Path | None:
    """The dataparser_transforms.json beside `path`, if there is one."""
    transforms = path.parent / TRANSFORMS_NAME
    return transforms if transforms.is_file() else None


def read_transforms(path: Path) -> Similarity:
    """world_from_file of nerfstudio's dataparser_transforms.json: file = scale * (rotation @ world + shift)."""
    tree: Any = read_json(path, "transforms file")
    try:
        matrix = np.array(tree["transform"], np.float64)[:3]
        scale = float(tree["scale"])
        rotation, shift = matrix[:, :3], matrix[:, 3]
        if (
            matrix.shape != (3, 4)
            or not is_rotation(rotation)
            or not 1e-12 <= scale <= 1e12
            or not np.isfinite(shift).all()
        ):
            raise ValueError("it is not a rotation, shift and scale")
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise UserError(
            f'{path} cannot be undone ({error}); "transform" must be a rotation with a shift, [3, 4], "scale" above 0.'
        ) from error
    return Similarity(1 / scale, rotation.T, -rotation.T @ shift)
