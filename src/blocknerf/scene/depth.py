"""Depth maps from files. In files, depth is along the optical axis (`depth_z_m`); 0 is unknown."""

from pathlib import Path

import numpy as np
from jaxtyping import Float32
from PIL import Image

from blocknerf.core.reading import read_npy
from blocknerf.scene.orientation import AS_STORED, Orientation
from blocknerf.scene.photographs import DECODE_ERRORS, opened_picture

DEPTH_ERRORS = (*DECODE_ERRORS, EOFError)
DEPTH_VERSION = 2
"""Version of how files are interpreted: what another version decoded is decoded again."""
MILLIMETRE = 1e-3
_LARGEST_DIFFERENCE_PX = 1
_MOST_PIXELS, _LARGE = 16, 1 << 24
"""Maximum pixels per pixel of the image, checked before decoding; small pictures may have more."""


def read_depth_z_m(
    path: Path, size: tuple[int, int], orientation: Orientation = AS_STORED, unit_m: float | None = None
) -> Float32[np.ndarray, "h w"]:
    """Metres along the optical axis for a picture of `size` (width, height), 0 where unknown.

    Floats in `.npy` are metres. Whole numbers, in `.npy` or in pictures of 16 or 32 bits, are millimetres (as in
    nerfstudio). With `unit_m`, all numbers are in that unit. A map of another size but the same proportions is fitted
    by repeating or skipping pixels. Raises one of DEPTH_ERRORS.
    """
    depth = _array(path) if path.suffix == ".npy" else _picture(path, size)
    if depth.ndim != 2 or depth.dtype.kind not in "fiu" or 0 in depth.shape:
        raise ValueError(f"it holds {depth.dtype} of the shape {depth.shape}, not one number per pixel")
    depth = orientation.fitted(depth, size)
    height, width = depth.shape
    if abs(width * size[1] / size[0] - height) > _LARGEST_DIFFERENCE_PX:
        raise ValueError(f"it is {width} x {height} pixels large, but the image {size[0]} x {size[1]}")
    usual_m = 1.0 if depth.dtype.kind == "f" else MILLIMETRE
    depth = depth.astype(np.float32) * np.float32(usual_m if unit_m is None else unit_m)
    depth[~(np.isfinite(depth) & (depth > 0))] = 0
    return np.array(Image.fromarray(depth).resize(size, Image.Resampling.NEAREST))


def holds_whole_numbers(path: Path) -> bool:
    """Whether a depth map without a given unit is in millimetres. Raises one of DEPTH_ERRORS."""
    if path.suffix == ".npy":
        return _array(path).dtype.kind != "f"
    with opened_picture(path) as image:
        return image.mode != "F"


def reduced_depth(depth_z_m: Float32[np.ndarray, "H W"], factor: int) -> Float32[np.ndarray, "h w"]:
    """Of every `factor` x `factor` pixels the median one by depth, 0 if any of them is unknown.

    Their mean would lie between two surfaces.
    """
    height, width = depth_z_m.shape[0] // factor, depth_z_m.shape[1] // factor
    cut = depth_z_m[: height * factor, : width * factor].reshape(height, factor, width, factor)
    ordered = np.sort(cut.swapaxes(1, 2).reshape(height, width, -1), axis=-1)
    return np.where(ordered[..., 0] > 0, ordered[..., factor * factor // 2], np.float32(0))


def _array(path: Path) -> np.ndarray:
    return read_npy(path, "depth map", mapped=True)


def _picture(path: Path, size: tuple[int, int]) -> np.ndarray:
    with opened_picture(path) as image:
        if image.width * image.height > max(_MOST_PIXELS * size[0] * size[1], _LARGE):
            raise ValueError(f"it has {image.width} x {image.height} pixels, which is far more than the image has")
        if not image.mode.startswith("I"):
            raise ValueError(f"it is a picture of the mode {image.mode}, not of 16 or 32 bits")
        return np.asarray(image, np.int64)
