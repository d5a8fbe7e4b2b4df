"""A file with the rays of one picture, for captures that hold rays, which may not fit any camera model.

A `.npy` of float32, [height, width, 3] or [height, width, 6], in the axes of the camera: a unit direction and, if rays
do not begin in one point, their origins relative to the camera's centre, in metres. Pose refinement then moves them as
it moves any camera.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Float32

from blocknerf.core.errors import UserError
from blocknerf.core.files import write_array
from blocknerf.core.reading import read_npy


def write_ray_table(path: Path, rays: Float32[np.ndarray, "h w channels"]) -> None:
    write_array(path, rays)


def has_origins(path: Path) -> bool:
    """Whether its rays begin in more than one point."""
    return _opened(path).shape[2] == 6


def reduced_rays(path: Path, width: int, height: int, factor: int) -> Float32[np.ndarray, "h w channels"]:
    """The table of a picture of `width` x `height` pixels at 1 / `factor`: rays through the middles of its pixels.

    Between pixel centres (for an even factor) it is the mean of the four neighbours. Raises UserError if the file is
    missing, damaged or of another size.
    """
    table = _opened(path)
    if table.shape[:2] != (height, width):
        raise UserError(f"{path} has rays of {table.shape[1]} x {table.shape[0]} pixels, the image {width} x {height}.")
    low, high = (factor - 1) // 2, factor // 2
    rows, columns = height // factor * factor, width // factor * factor
    middles = [table[y:rows:factor, x:columns:factor] for y in {low, high} for x in {low, high}]
    rays = np.asarray(np.mean(middles, axis=0, dtype=np.float64))
    with np.errstate(all="ignore"):
        rays[..., :3] /= np.linalg.norm(rays[..., :3], axis=-1, keepdims=True)
    if not np.isfinite(rays).all():
        raise UserError(f"{path} holds a ray without a direction. Remove its folder and read again.")
    return rays.astype(np.float32)


def _opened(path: Path) -> np.ndarray:
    """Memory-mapped, not read: a table is six times as large as its picture."""
    try:
        table = read_npy(path, "table of rays", "f", mapped=True)
    except UserError as error:
        raise UserError(f"The rays in {path} cannot be read: {error} Remove its folder and read again.") from error
    if table.dtype != np.float32 or table.ndim != 3 or table.shape[2] not in (3, 6):
        raise UserError(f"{path} holds {table.dtype} of {table.shape}, and no rays. Remove its folder and read again.")
    return table
