"""Gaussians on the picture plane, blended front to back (Zwicker et al. 2001; Kerbl et al. 2023, section 6).

At offset d from its centre a splat has alpha = min(opacity exp(-d^T C d / 2), MOST_ALPHA), and none below LEAST_ALPHA;
C is its conic, the inverse of its covariance. A pixel adds up alpha T colour, T being what all splats before let
through, until T falls below LEAST_TRANSMITTANCE. Pixel centres lie at half integers.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.kernels.registry import backend_for, kernels_for

LEAST_ALPHA = 1 / 255
MOST_ALPHA = 0.99
LEAST_TRANSMITTANCE = 1e-4


def rasterize(
    centers_xy: Float[Tensor, "splats 2"],
    conics: Float[Tensor, "splats 3"],
    rgb: Float[Tensor, "splats 3"],
    opacities: Float[Tensor, " splats"],
    width: int,
    height: int,
) -> Float[Tensor, "4 h w"]:
    """Red, green, blue before black, and opacity of a picture; splats come front to back. Differentiable in all four.

    `conics` are C's entries xx, xy, yy; centres are in pixels.
    """
    if backend_for(centers_xy, __name__) == "torch":
        return rasterize_torch(centers_xy, conics, rgb, opacities, width, height)
    return _Rasterize.apply(centers_xy, conics, rgb, opacities, width, height)  # pyright: ignore[reportReturnType]


def rasterize_torch(
    centers_xy: Float[Tensor, "splats 2"],
    conics: Float[Tensor, "splats 3"],
    rgb: Float[Tensor, "splats 3"],
    opacities: Float[Tensor, " splats"],
    width: int,
    height: int,
) -> Float[Tensor, "4 h w"]:
    """The twin: every splat at every pixel."""
    ys, xs = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    pixels = torch.stack([xs, ys], -1).reshape(-1, 2).to(centers_xy) + 0.5
    dx, dy = (pixels[None] - centers_xy[:, None]).unbind(-1)
    xx, xy, yy = conics[:, :, None].unbind(1)
    fall = torch.exp(-0.5 * (xx * dx * dx + yy * dy * dy) - xy * dx * dy)
    alpha = (opacities[:, None] * fall).clamp(max=MOST_ALPHA)
    alpha = torch.where(alpha >= LEAST_ALPHA, alpha, torch.zeros_like(alpha))
    behind = torch.cumprod(1 - alpha, 0)
    before = torch.cat([torch.ones_like(behind[:1]), behind[:-1]])
    weights = torch.where(before >= LEAST_TRANSMITTANCE, alpha * before, torch.zeros_like(alpha))
    shown = torch.cat([rgb, torch.ones_like(rgb[:, :1])], 1)
    return (shown.T @ weights).reshape(4, height, width)


class _Rasterize(torch.autograd.Function):
    @staticmethod
    def forward(ctx, centers_xy, conics, rgb, opacities, width, height):  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.kernels = kernels_for(__name__, centers_xy)
        picture = centers_xy.new_zeros(4, height, width)
        ctx.kernels.forward(centers_xy, conics, rgb, opacities, picture)
        ctx.save_for_backward(centers_xy, conics, rgb, opacities, picture)
        return picture

    @staticmethod
    def backward(ctx, grad_picture):  # pyright: ignore[reportIncompatibleMethodOverride]
        centers_xy, conics, rgb, opacities, picture = ctx.saved_tensors
        grads = centers_xy.new_zeros(len(centers_xy), 9)
        ctx.kernels.backward(centers_xy, conics, rgb, opacities, picture, grad_picture, grads)
        return grads[:, 0:2], grads[:, 2:5], grads[:, 5:8], grads[:, 8], None, None
