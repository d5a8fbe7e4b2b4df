"""Weights of intervals and sums along rays, differentiable."""

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.kernels.compositing import reference
from blocknerf.kernels.registry import backend_for, kernels_for


def render_weights(
    density: Float[Tensor, "rays samples"], edges: Float[Tensor, "rays edges"]
) -> Float[Tensor, "rays samples"]:
    """Weights of intervals; each is in [0, 1] and a ray's sum is at most 1. Differentiable in the densities."""
    if backend_for("compositing.weights", density) == "torch":
        return reference.render_weights(density, edges)
    return _RenderWeights.apply(density, edges)  # pyright: ignore[reportReturnType]


def accumulate(
    weights: Float[Tensor, "rays samples"], values: Float[Tensor, "rays samples channels"]
) -> Float[Tensor, "rays channels"]:
    """Sum over a ray of weight times value. Differentiable in both."""
    if backend_for("compositing.accumulate", values) == "torch":
        return reference.accumulate(weights, values)
    return _Accumulate.apply(weights, values)  # pyright: ignore[reportReturnType]


class _RenderWeights(torch.autograd.Function):
    @staticmethod
    def forward(ctx, density, edges):  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.kernels = kernels_for("compositing", density)
        weights = density.new_empty(density.shape)
        ctx.kernels.weights(density, edges, weights)
        ctx.save_for_backward(density, edges, weights)
        return weights

    @staticmethod
    def backward(ctx, grad_weights):  # pyright: ignore[reportIncompatibleMethodOverride]
        density, edges, weights = ctx.saved_tensors
        grad_density = weights.new_empty(weights.shape)
        ctx.kernels.weights_backward(density, edges, weights, grad_weights, grad_density)
        return grad_density, None


class _Accumulate(torch.autograd.Function):
    @staticmethod
    def forward(ctx, weights, values):  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.kernels = kernels_for("compositing", values)
        total = values.new_empty(values.shape[0], values.shape[2])
        ctx.kernels.accumulate(weights, values.permute(2, 0, 1), total)
        ctx.save_for_backward(weights, values)
        return total

    @staticmethod
    def backward(ctx, grad_total):  # pyright: ignore[reportIncompatibleMethodOverride]
        weights, values = ctx.saved_tensors
        grad_weights, grad_values = weights.new_empty(weights.shape), values.new_empty(values.shape[2], *weights.shape)
        ctx.kernels.accumulate_backward(weights, values.permute(2, 0, 1), grad_total, grad_weights, grad_values)
        return grad_weights, grad_values.permute(1, 2, 0)
