"""A picture of Gaussians on the picture plane, differentiable."""

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.kernels.registry import backend_for, kernels_for
from blocknerf.kernels.splats import reference


def rasterize(
    centers_xy: Float[Tensor, "splats 2"],
    conics: Float[Tensor, "splats 3"],
    rgb: Float[Tensor, "splats 3"],
    opacities: Float[Tensor, " splats"],
    width: int,
    height: int,
) -> Float[Tensor, "4 h w"]:
    """Red, green, blue on black, and opacity of a picture. Splats are sorted front to back. Differentiable in all four.

    `conics` are C's entries xx, xy, yy; centres are in pixels.
    """
    if backend_for("splats.forward", centers_xy) == "torch":
        return reference.rasterize(centers_xy, conics, rgb, opacities, width, height)
    return _Rasterize.apply(centers_xy, conics, rgb, opacities, width, height)  # pyright: ignore[reportReturnType]


class _Rasterize(torch.autograd.Function):
    @staticmethod
    def forward(ctx, centers_xy, conics, rgb, opacities, width, height):  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.kernels = kernels_for("splats", centers_xy)
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
