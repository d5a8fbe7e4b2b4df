"""Density from its logarithm, differentiable."""

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.kernels.log_density import reference
from blocknerf.kernels.registry import backend_for, kernels_for


def exp_density(raw: Float[Tensor, "*points"], bias: float, largest_log: float) -> Float[Tensor, "*points"]:
    """exp(min(raw + bias, largest_log)), per block radius. Differentiable in `raw`; no gradient above the maximum."""
    if backend_for("log_density.density", raw) == "torch":
        return reference.exp_density(raw, bias, largest_log)
    return _ExpDensity.apply(raw, bias, largest_log)  # pyright: ignore[reportReturnType]


class _ExpDensity(torch.autograd.Function):
    @staticmethod
    def forward(ctx, raw, bias, largest_log):  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.kernels, ctx.limits = kernels_for("log_density", raw), (bias, largest_log)
        density = raw.new_empty(raw.shape)
        ctx.kernels.density(raw.reshape(-1), *ctx.limits, density.view(-1))
        ctx.save_for_backward(raw, density)
        return density

    @staticmethod
    def backward(ctx, grad_density):  # pyright: ignore[reportIncompatibleMethodOverride]
        raw, density = ctx.saved_tensors
        grad_raw = density.new_empty(density.shape)
        ctx.kernels.density_backward(
            raw.reshape(-1), *ctx.limits, density.view(-1), grad_density.reshape(-1), grad_raw.view(-1)
        )
        return grad_raw, None, None
