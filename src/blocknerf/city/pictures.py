"""Converts float colours to bytes and writes pictures. No other module does."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from blocknerf.core.own_png import write_own_png


def to_bytes(rgb: Float[Tensor, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """Colours in [0, 1] to 0..255, clamped, rounded to the nearest."""
    return (rgb.detach().clamp(0, 1) * 255).round().to(torch.uint8).numpy()


def write_png(path: Path, pixels: UInt8[np.ndarray, "h w 3"]) -> None:
    """Writes a picture that names this program (see core.own_png)."""
    write_own_png(path, Image.fromarray(pixels))
