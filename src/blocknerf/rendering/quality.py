"""How far a picture is from the truth: PSNR and SSIM over the pixels that count. Colours are floats in [0, 1]."""

from typing import cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from blocknerf.core.errors import UserError

LARGEST_PSNR = 100.0
SSIM_WINDOW_PX = 11


def psnr(
    render: Float[Tensor, "*pixels 3"], truth: Float[Tensor, "*pixels 3"], valid: Bool[Tensor, "*pixels"] | None = None
) -> float:
    """-10 log10(MSE) in dB of one image, over valid pixels and channels; `render` is clamped, not rounded to bytes.

    At most 100, so that equal pictures have a figure that JSON can hold. The figure of a scene is the mean of its
    images' PSNR, not the PSNR of their mean error. Raises ValueError where no pixel is valid.
    """
    error = (render.clamp(0, 1) - truth).double().square()
    if valid is not None:
        error = error[valid]
    if error.numel() == 0:
        raise ValueError("no valid pixel to compare")
    return min(float(-10 * torch.log10(error.mean())), LARGEST_PSNR)


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


def ssim(render: Float[Tensor, "h w 3"], truth: Float[Tensor, "h w 3"], valid: Bool[Tensor, "h w"]) -> float:
    """Structural similarity (see `similarity`), mean over valid pixels and channels; 1 for equal pictures.

    Pixels that are not valid are equal in both pictures while windows are formed, and have no place in the mean. Raises
    UserError for pictures smaller than the window.
    """
    height, width = valid.shape
    if min(height, width) < SSIM_WINDOW_PX:
        raise UserError(
            f"SSIM needs pictures of at least {SSIM_WINDOW_PX} pixels a side, and these have {width} x {height}. "
            "Train and evaluate with a smaller dataset.image_downsample."
        )
    shown = torch.where(valid[..., None], render.clamp(0, 1), truth)
    return float(similarity(shown[None], truth[None])[0][valid].double().mean())
