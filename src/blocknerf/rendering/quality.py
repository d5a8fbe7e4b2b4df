"""How far a picture is from the truth."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def psnr(
    render: Float[Tensor, "*pixels 3"], truth: Float[Tensor, "*pixels 3"], valid: Bool[Tensor, "*pixels"] | None = None
) -> float:
    """Peak signal-to-noise ratio of one image in dB: peak 1, render clamped to [0, 1], over valid pixels only.

    Infinite for identical pictures. Raises ValueError where no pixel is valid.
    """
    error = (render.clamp(0, 1) - truth).double().square()
    if valid is not None:
        error = error[valid]
    if error.numel() == 0:
        raise ValueError("no valid pixel to compare")
    return float(-10 * torch.log10(error.mean()))
