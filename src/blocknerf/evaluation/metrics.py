"""PSNR and SSIM of one picture against one photograph, over the pixels that count. Colours are floats in [0, 1]."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from blocknerf.core.errors import UserError
from blocknerf.rendering import quality

LARGEST_PSNR = 100.0
SSIM_WINDOW_PX = 11


def psnr(render: Float[Tensor, "h w 3"], truth: Float[Tensor, "h w 3"], valid: Bool[Tensor, "h w"]) -> float:
    """-10 log10(MSE) in dB of one image, over valid pixels and channels; `render` is clamped, not rounded to bytes.

    At most 100, so that equal pictures have a figure that JSON can hold. The figure of a scene is the mean of its
    images' PSNR, not the PSNR of their mean error.
    """
    return min(quality.psnr(render, truth, valid), LARGEST_PSNR)


def ssim(render: Float[Tensor, "h w 3"], truth: Float[Tensor, "h w 3"], valid: Bool[Tensor, "h w"]) -> float:
    """Structural similarity (see `quality.similarity`), mean over valid pixels and channels; 1 for equal pictures.

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
    return float(quality.similarity(shown[None], truth[None])[0][valid].double().mean())
