"""Where floats become bytes: pictures leave the program here, and only here."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from blocknerf.core.files import write_picture


def to_bytes(rgb: Float[Tensor, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """Colours in [0, 1] to 0..255, clamped, rounded to the nearest."""
    return (rgb.detach().clamp(0, 1) * 255).round().to(torch.uint8).numpy()


def write_png(path: Path, pixels: UInt8[np.ndarray, "h w 3"]) -> None:
    write_picture(path, Image.fromarray(pixels), "PNG")
