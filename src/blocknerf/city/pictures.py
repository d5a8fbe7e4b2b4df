"""Where floats become bytes: pictures leave the program here, and only here."""

import contextlib
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from PIL.PngImagePlugin import PngImageFile, PngInfo
from torch import Tensor

from blocknerf.core.files import write_picture

_MADE_BY = ("Software", "blocknerf")


def to_bytes(rgb: Float[Tensor, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """Colours in [0, 1] to 0..255, clamped, rounded to the nearest."""
    return (rgb.detach().clamp(0, 1) * 255).round().to(torch.uint8).numpy()


def write_png(path: Path, pixels: UInt8[np.ndarray, "h w 3"]) -> None:
    """Writes a picture that says who made it, so that `is_own_png` knows it again."""
    about = PngInfo()
    about.add_text(*_MADE_BY)
    write_picture(path, Image.fromarray(pixels), "PNG", pnginfo=about)


def is_own_png(path: Path) -> bool:
    """Whether `write_png` made the file: others are not ours to remove or replace. Only its beginning is read."""
    key, name = _MADE_BY
    with contextlib.suppress(OSError, ValueError, SyntaxError), Image.open(path, formats=["png"]) as image:
        return isinstance(image, PngImageFile) and not path.is_symlink() and image.info.get(key) == name
    return False
