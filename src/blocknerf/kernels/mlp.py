"""A network with one hidden layer of rectified units, for millions of points: y = W2 max(W1 x + b1, 0) + b2."""

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.kernels.registry import backend_for, kernels_for

WORKERS = 8  # slabs of the weights' gradient: more than this many threads are not used; the sum's order never changes
PROGRAMS = 264  # slabs on CUDA: two for each multiprocessor of a large device


def two_layers(
    values: Float[Tensor, "points inputs"],
    weight1: Float[Tensor, "width inputs"],
    bias1: Float[Tensor, " width"],
    weight2: Float[Tensor, "outputs width"],
    bias2: Float[Tensor, " outputs"],
) -> Float[Tensor, "points outputs"]:
    """Differentiable in everything."""
    if backend_for(values) == "torch":
        return two_layers_torch(values, weight1, bias1, weight2, bias2)
    return _TwoLayers.apply(values, weight1, bias1, weight2, bias2)  # pyright: ignore[reportReturnType]


def first_apart(
    values: Float[Tensor, "points channels"],
) -> tuple[Float[Tensor, " points"], Float[Tensor, "points others"]]:
    """The first channel and the others; their gradients are put together channel after channel, as kernels want them.

    Autograd's own joins them point after point, and a kernel then has them turned round.
    """
    return _FirstApart.apply(values)  # pyright: ignore[reportReturnType]


def two_layers_torch(
    values: Float[Tensor, "points inputs"],
    weight1: Float[Tensor, "width inputs"],
    bias1: Float[Tensor, " width"],
    weight2: Float[Tensor, "outputs width"],
    bias2: Float[Tensor, " outputs"],
) -> Float[Tensor, "points outputs"]:
    hidden = torch.nn.functional.linear(values, weight1, bias1).relu()
    return torch.nn.functional.linear(hidden, weight2, bias2)


class _FirstApart(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values):  # pyright: ignore[reportIncompatibleMethodOverride]
        return values[:, 0], values[:, 1:]

    @staticmethod
    def backward(ctx, grad_first, grad_others):  # pyright: ignore[reportIncompatibleMethodOverride]
        return torch.cat([grad_first[None], grad_others.t()]).t()


class _TwoLayers(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values, *parameters):  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.kernels = kernels_for(__name__, values)
        out = values.new_empty(parameters[2].shape[0], values.shape[0])
        ctx.kernels.forward(values.t(), *parameters, out)
        ctx.save_for_backward(values, *parameters)
        return out.t()

    @staticmethod
    def backward(ctx, grad_out):  # pyright: ignore[reportIncompatibleMethodOverride]
        values, *parameters = ctx.saved_tensors
        grad_values = values.new_empty(values.shape[1], values.shape[0])
        workers = WORKERS if values.device.type == "cpu" else PROGRAMS
        slabs = [parameter.new_zeros(workers, *parameter.shape) for parameter in parameters]
        ctx.kernels.backward(values.t(), *parameters[:3], grad_out.t(), grad_values, *slabs)
        return grad_values.t(), *(slab.sum(0) for slab in slabs)
