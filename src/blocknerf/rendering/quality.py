"""How far a picture is from the truth."""

from typing import cast

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


def similarity(
    render: Float[Tensor, "pictures h w 3"], truth: Float[Tensor, "pictures h w 3"]
) -> Float[Tensor, "pictures h w 3"]:
    """Structural similarity (Wang et al. 2004) of the windows around all pixels, by channel; 1 where they are equal.

    Gaussian windows of 11 x 11 pixels, sigma 1.5, k1 = 0.01, k2 = 0.03, data range 1, reflected at the border.
    Differentiable.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure  # seconds, and few runs need it

    both = structural_similarity_index_measure(
        render.movedim(-1, 1), truth.movedim(-1, 1), data_range=1.0, return_full_image=True
    )
    return cast(tuple[Tensor, Tensor], both)[1].movedim(1, -1)
