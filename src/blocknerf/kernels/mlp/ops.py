"""Small networks for many points, differentiable."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.kernels.mlp import reference
from blocknerf.kernels.registry import backend_for, kernels_for

SLABS = 32  # of the weights' gradient, one for each piece of work, so at most this many threads are used
POINTS_IN_SLAB = 256  # at least, because small slabs are not worth their sum
PROGRAMS = 264  # slabs on CUDA: two for each multiprocessor of a large device


def fused_mlp(
    values: Float[Tensor, "points inputs"],
    weight1: Float[Tensor, "width inputs"],
    bias1: Float[Tensor, " width"],
    weight2: Float[Tensor, "outputs width"],
    bias2: Float[Tensor, " outputs"],
) -> tuple[Float[Tensor, "points 1"], Float[Tensor, "points others"]]:
    """The first output and the others, separate so that gradients are too. Differentiable in all arguments."""
    if backend_for("mlp.forward", values) == "torch":
        out = reference.fused_mlp(values, weight1, bias1, weight2, bias2)
        return out[:, :1], out[:, 1:]
    return _TwoLayers.apply(values, weight1, bias1, weight2, bias2)  # pyright: ignore[reportReturnType]


def fused_mlp_three(
    values: Float[Tensor, "points inputs"], *parameters: Float[Tensor, "..."]
) -> Float[Tensor, "points outputs"]:
    """Two hidden layers: weight and bias of each layer in order. Differentiable in everything."""
    if backend_for("mlp.forward_three", values) == "torch":
        return reference.fused_mlp_three(values, *parameters)
    return _ThreeLayers.apply(values, *parameters)  # pyright: ignore[reportReturnType]


class _TwoLayers(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values, *parameters):  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.kernels = kernels_for("mlp", values)
        out = values.new_empty(parameters[2].shape[0], values.shape[0])
        ctx.kernels.forward(values.t(), *parameters, out)
        ctx.save_for_backward(values, *parameters)
        return out[:1].t(), out[1:].t()

    @staticmethod
    def backward(ctx, grad_first, grad_others):  # pyright: ignore[reportIncompatibleMethodOverride]
        values, *parameters = ctx.saved_tensors
        grad_values = values.new_empty(values.shape[1], values.shape[0])
        slabs = _slabs(values, parameters)
        ctx.kernels.backward(values.t(), *parameters[:3], grad_first.t(), grad_others.t(), grad_values, *slabs)
        return grad_values.t(), *(slab.sum(0) for slab in slabs)


class _ThreeLayers(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values, *parameters):  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.kernels = kernels_for("mlp", values)
        out = values.new_empty(parameters[4].shape[0], values.shape[0])
        ctx.kernels.forward_three(values.t(), *parameters, out)
        ctx.save_for_backward(values, *parameters)
        return out.t()

    @staticmethod
    def backward(ctx, grad_out):  # pyright: ignore[reportIncompatibleMethodOverride]
        values, *parameters = ctx.saved_tensors
        grad_values = values.new_empty(values.shape[1], values.shape[0])
        slabs = _slabs(values, parameters)
        ctx.kernels.backward_three(values.t(), *parameters[:5], grad_out.t(), grad_values, *slabs)
        return grad_values.t(), *(slab.sum(0) for slab in slabs)


def _slabs(values: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
    """Buffers for sums over parts of the points. On a processor, their number depends only on that of the points."""
    count = PROGRAMS if values.device.type != "cpu" else min(SLABS, 1 + len(values) // POINTS_IN_SLAB)
    return [parameter.new_zeros(count, *parameter.shape) for parameter in parameters]
