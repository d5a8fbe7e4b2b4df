"""A table's gradient, to which backward passes add in place. A row was touched if it is not 0."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def nonzero_rows(gradient: Float[Tensor, "levels rows features"]) -> Bool[Tensor, "levels rows"]:
    return (gradient != 0).any(-1)


def redirect_grad(table: Tensor, gradient: Float[Tensor, "levels rows features"]) -> Tensor:
    """The table, for operations without a kernel: its gradient is added to `gradient` instead of `table.grad`."""
    return _Collect.apply(table, gradient)  # pyright: ignore[reportReturnType]


class _Collect(torch.autograd.Function):
    @staticmethod
    def forward(ctx, table, gradient):  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.gradient = gradient
        return table.view_as(table)

    @staticmethod
    def backward(ctx, grad_table):  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.gradient += grad_table.reshape(ctx.gradient.shape)
        return None, None
