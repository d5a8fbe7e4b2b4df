"""A table's gradient that knows which rows it touched."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, UInt8
from torch import Tensor


@dataclass(eq=False)
class RowGradient:
    """`seen` is 1 for touched rows; `values` is zero in all others."""

    values: Float[Tensor, "levels rows features"]
    seen: UInt8[Tensor, "levels rows"] = field(init=False)

    def __post_init__(self) -> None:
        self.seen = torch.zeros(self.values.shape[:2], dtype=torch.uint8, device=self.values.device)

    def collect(self, table: Tensor) -> Tensor:
        """The table, for what has no kernel: its gradient is added here instead of to `table.grad`."""
        return _Collect.apply(table, self)  # pyright: ignore[reportReturnType]


class _Collect(torch.autograd.Function):
    @staticmethod
    def forward(ctx, table, gradient):  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.gradient = gradient
        return table.view_as(table)

    @staticmethod
    def backward(ctx, grad_table):  # pyright: ignore[reportIncompatibleMethodOverride]
        grad = grad_table.reshape(ctx.gradient.values.shape)
        ctx.gradient.values += grad
        ctx.gradient.seen |= (grad != 0).any(-1)
        return None, None
