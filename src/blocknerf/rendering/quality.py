"""PSNR and SSIM of a picture over the valid pixels. Colours are floats in [0, 1]."""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import conv2d, pad

from blocknerf.core.errors import UserError

LARGEST_PSNR = 100.0
SSIM_WINDOW_PX, SSIM_SIGMA_PX = 11, 1.5
C1, C2 = 0.01**2, 0.03**2
"""Constants of SSIM for colours in [0, 1] (Wang et al. 2004)."""


def psnr(
    render: Float[Tensor, "*pixels 3"], truth: Float[Tensor, "*pixels 3"], valid: Bool[Tensor, "*pixels"] | None = None
) -> float:
    """-10 log10(MSE) in dB of one image, over valid pixels and channels; `render` is clamped, not rounded to bytes.

    At most 100, so that equal pictures have a figure that JSON can hold. The figure of a scene is the mean of its
    images' PSNR, not the PSNR of their mean error. Raises ValueError if no pixel is valid.
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

    Gaussian windows of 11 x 11 pixels, sigma 1.5, k1 = 0.01, k2 = 0.03, data range 1, reflected at the border, as in
    torchmetrics, whose import alone takes longer than a report of many small pictures. Differentiable.
    """
    reach, layers = SSIM_WINDOW_PX // 2, render.shape[0] * render.shape[-1]
    window = _window(render).expand(layers, 1, 1, -1)

    def mean(values: Float[Tensor, "pictures 3 h w"]) -> Float[Tensor, "pictures 3 h w"]:
        padded = pad(values.flatten(0, 1)[None], (reach, reach, reach, reach), mode="reflect")
        across = conv2d(padded, window, groups=layers)  # layers of one picture: as pictures, it takes ten times as long
        return conv2d(across, window.mT, groups=layers).reshape(values.shape)

    return _similarity(render.movedim(-1, 1), truth.movedim(-1, 1), mean).movedim(1, -1)


def masked_similarity(
    render: Float[Tensor, "pictures h w 3"],
    truth: Float[Tensor, "pictures h w 3"],
    valid: Bool[Tensor, "pictures h w"],
) -> Float[Tensor, "pictures h w 3"]:
    """`similarity` whose windows hold valid pixels alone, with their Gaussian weights scaled to sum to 1.

    Other pixels of either picture do not affect valid ones. Equal to `similarity` if all pixels are valid; meaningless
    in pixels that are not. Differentiable.
    """
    mask = valid[:, None].to(render)
    down, across = (_window_weights(size, render) for size in valid.shape[1:])
    share = torch.where(valid[:, None], down @ mask @ across.T, 1)

    def mean(values: Float[Tensor, "pictures 3 h w"]) -> Float[Tensor, "pictures 3 h w"]:
        return down @ (values * mask) @ across.T / share

    return _similarity(render.movedim(-1, 1), truth.movedim(-1, 1), mean).movedim(1, -1)


def _similarity(
    render: Float[Tensor, "pictures 3 h w"],
    truth: Float[Tensor, "pictures 3 h w"],
    mean: Callable[[Float[Tensor, "pictures 3 h w"]], Float[Tensor, "pictures 3 h w"]],
) -> Float[Tensor, "pictures 3 h w"]:
    """Structural similarity, where `mean` takes the weighted mean over the window around each pixel."""
    render_mean, truth_mean = mean(render), mean(truth)
    # Rounding must not make a variance negative.
    render_variance = (mean(render.square()) - render_mean.square()).clamp(min=0)
    truth_variance = (mean(truth.square()) - truth_mean.square()).clamp(min=0)
    covariance = mean(render * truth) - render_mean * truth_mean
    luminance = (2 * render_mean * truth_mean + C1) / (render_mean.square() + truth_mean.square() + C1)
    structure = (2 * covariance + C2) / (render_variance + truth_variance + C2)
    return luminance * structure


def _window(like: Tensor) -> Float[Tensor, " window"]:
    """Gaussian weights along a line; they sum to 1."""
    reach = SSIM_WINDOW_PX // 2
    offsets = torch.arange(-reach, reach + 1).to(like)
    weights = torch.exp(-offsets.square() / (2 * SSIM_SIGMA_PX**2))
    return weights / weights.sum()


def _window_weights(size: int, like: Tensor) -> Float[Tensor, "size size"]:
    """Row i: the Gaussian window around pixel i of a line, reflected at its ends; rows sum to 1."""
    reach = SSIM_WINDOW_PX // 2
    pixels = pad(torch.eye(size).to(like)[None], (reach, reach), mode="reflect")[0]
    return (pixels.unfold(1, SSIM_WINDOW_PX, 1) @ _window(like)).T


def ssim(render: Float[Tensor, "h w 3"], truth: Float[Tensor, "h w 3"], valid: Bool[Tensor, "h w"]) -> float:
    """Structural similarity (see `similarity`), mean over valid pixels and channels; 1 for equal pictures.

    Invalid pixels count as equal in both pictures inside of windows, and are excluded from the mean. Raises UserError
    for pictures smaller than the window.
    """
    height, width = valid.shape
    if min(height, width) < SSIM_WINDOW_PX:
        raise UserError(
            f"SSIM needs pictures of at least {SSIM_WINDOW_PX} pixels a side, and these have {width} x {height}. "
            "Train and evaluate with a smaller dataset.image_downsample."
        )
    filled = torch.where(valid[..., None], render.clamp(0, 1), truth)
    return float(similarity(filled[None], truth[None])[0][valid].double().mean())
