"""Gaussians on the picture plane, blended front to back (Zwicker et al. 2001; Kerbl et al. 2023, section 6).

At offset d from its centre, a splat has alpha = min(opacity exp(-d^T C d / 2), MOST_ALPHA), or 0 below LEAST_ALPHA; C
is its conic, the inverse of its covariance. A pixel is the sum of alpha T colour, where T is the transmittance of all
splats in front, until T falls below LEAST_TRANSMITTANCE. Pixel centres are at half integers.
"""

import torch
from jaxtyping import Float
from torch import Tensor

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
    """Evaluates every splat at every pixel."""
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
    channels = torch.cat([rgb, torch.ones_like(rgb[:, :1])], 1)
    return (channels.T @ weights).reshape(4, height, width)
