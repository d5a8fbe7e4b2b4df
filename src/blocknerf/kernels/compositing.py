"""Emission-absorption compositing (Max 1995; mip-NeRF 360, section 2) of densities and features along rays.

weight_i = (1 - exp(-density_i delta_i)) exp(-sum_{j<i} density_j delta_j): the transmittance is exclusive.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.kernels.registry import backend_for, kernels_for


def render_weights(
    density: Float[Tensor, "rays samples"], edges: Float[Tensor, "rays edges"]
) -> Float[Tensor, "rays samples"]:
    """Weights of intervals; each is in [0, 1] and a ray's sum is at most 1. Differentiable in the densities."""
    if backend_for(density) == "torch":
        return render_weights_torch(density, edges)
    return _RenderWeights.apply(density, edges)  # pyright: ignore[reportReturnType]


def render_weights_torch(
    density: Float[Tensor, "rays samples"], edges: Float[Tensor, "rays edges"]
) -> Float[Tensor, "rays samples"]:
    optical_depth = density * edges.diff(dim=-1)
    before = torch.nn.functional.pad(optical_depth[..., :-1], (1, 0)).cumsum(-1)
    return -torch.expm1(-optical_depth) * torch.exp(-before)


def accumulate(
    weights: Float[Tensor, "rays samples"], values: Float[Tensor, "rays samples channels"]
) -> Float[Tensor, "rays channels"]:
    """Sum over a ray of weight times value. Differentiable in both."""
    if backend_for(values) == "torch":
        return accumulate_torch(weights, values)
    return _Accumulate.apply(weights, values)  # pyright: ignore[reportReturnType]


def accumulate_torch(
    weights: Float[Tensor, "rays samples"], values: Float[Tensor, "rays samples channels"]
) -> Float[Tensor, "rays channels"]:
    return (weights.unsqueeze(-2) @ values).squeeze(-2)


class _RenderWeights(torch.autograd.Function):
    @staticmethod
    def forward(ctx, density, edges):  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.kernels = kernels_for(__name__, density)
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
        ctx.kernels = kernels_for(__name__, values)
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
