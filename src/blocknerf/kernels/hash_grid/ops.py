"""The hash encoding, differentiable, and the resolutions of its levels."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from blocknerf.kernels.hash_grid import reference
from blocknerf.kernels.registry import backend_for, kernels_for
from blocknerf.kernels.row_gradient import redirect_grad

FEATURES = 4  # per level: one row is one 16-byte vector, four rows one cache line
KERNEL_FEATURES = (2, 4)


def level_resolutions(num_levels: int, base: int, finest: int) -> Int[Tensor, " levels"]:
    """Cells per edge by level, geometric from `base` to `finest` (Mueller et al. 2022, equations 2 and 3)."""
    growth = (finest / base) ** (1 / max(num_levels - 1, 1))
    return torch.tensor([int(np.floor(base * growth**level + 1e-6)) for level in range(num_levels)])


def hash_encode(
    points: Float[Tensor, "points 3"],
    table: Float[Tensor, "levels rows features"],
    resolutions: Int[Tensor, " levels"],
    gradient: Float[Tensor, "levels rows features"] | None = None,
) -> Float[Tensor, "points encoding"]:
    """Features of `points` in [0, 1]^3, level after level.

    If `gradient` is given, the table's gradient is added to it instead of `table.grad`. Points outside the cube are
    moved to its border. All implementations are differentiable in the points.

    Raises ValueError if the table does not fit the kernel, which checks nothing while it reads: a row needs
    KERNEL_FEATURES features, and the number of rows must be a power of two.
    """
    if backend_for("hash_grid.encode", table) == "torch":
        return reference.hash_encode(points, table if gradient is None else redirect_grad(table, gradient), resolutions)
    _, rows, features = table.shape
    if features not in KERNEL_FEATURES or rows & (rows - 1):
        raise ValueError(f"The kernel needs 2^n rows of 2 or 4 features; the table has {rows} of {features}.")
    return _HashEncode.apply(points, table, resolutions, gradient)  # pyright: ignore[reportReturnType]


class _HashEncode(torch.autograd.Function):
    @staticmethod
    def forward(ctx, points, table, resolutions, gradient):  # pyright: ignore[reportIncompatibleMethodOverride]
        kernels = kernels_for("hash_grid", table)
        encoded = points.new_empty(table.shape[0] * table.shape[2], points.shape[0])
        kernels.encode(points.t(), table, resolutions, encoded)
        ctx.save_for_backward(points, table, resolutions)
        ctx.gradient, ctx.kernels = gradient, kernels
        return encoded.t()

    @staticmethod
    def backward(ctx, grad_encoded):  # pyright: ignore[reportIncompatibleMethodOverride]
        points, table, resolutions = ctx.saved_tensors
        grad_points = grad_table = None
        if ctx.needs_input_grad[0]:
            grad_points = points.new_empty(3, points.shape[0])
            ctx.kernels.encode_backward_points(points.t(), table, resolutions, grad_encoded.t(), grad_points)
            grad_points = grad_points.t()
        if ctx.needs_input_grad[1]:
            into = points.new_zeros(table.shape) if ctx.gradient is None else ctx.gradient
            ctx.kernels.encode_backward_table(points.t(), resolutions, grad_encoded.t(), into)
            grad_table = into if ctx.gradient is None else None
        return grad_points, grad_table, None, None
