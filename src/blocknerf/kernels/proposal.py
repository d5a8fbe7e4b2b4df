"""The proposal: a dense grid of log density over the contracted cube, asked along rays to decide where samples go.

Trilinear in log density; density = exp(grid value) per block radius.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.kernels.marching import unit_cube_points_torch
from blocknerf.kernels.registry import backend_for, kernels_for
from blocknerf.kernels.row_gradient import collect

MAX_LOG_DENSITY = 12.0


def proposal_density(
    origins: Float[Tensor, "rays 3"],
    directions: Float[Tensor, "rays 3"],
    edges: Float[Tensor, "rays edges"],
    grid: Float[Tensor, "z y x"],
    gradient: Float[Tensor, "1 cells 1"] | None = None,
) -> Float[Tensor, "rays samples"]:
    """Density (per block radius) at the middle of every interval, rays in block units. Differentiable in the grid.

    With `gradient` given (one level, one feature, the cells in row-major order as rows), the grid's gradient is added
    there instead of to `grid.grad`.
    """
    if backend_for(grid) == "torch":
        collected = grid if gradient is None else collect(grid, gradient)
        return proposal_density_torch(origins, directions, edges, collected)
    return _ProposalDensity.apply(origins, directions, edges, grid, gradient)  # pyright: ignore[reportReturnType]


def proposal_density_torch(
    origins: Float[Tensor, "rays 3"],
    directions: Float[Tensor, "rays 3"],
    edges: Float[Tensor, "rays edges"],
    grid: Float[Tensor, "z y x"],
) -> Float[Tensor, "rays samples"]:
    points = unit_cube_points_torch(origins, directions, edges)
    corners = grid.shape[0] - 1
    scaled = points.clamp(0, 1) * corners
    low = scaled.floor().clamp(max=corners - 1)
    fraction = scaled - low
    x, y, z = low.long().clamp(0, corners - 1).unbind(-1)  # of NaN, too
    value = torch.zeros_like(points[..., 0])
    for corner in range(8):
        bits = x.new_tensor([corner & 1, corner >> 1 & 1, corner >> 2 & 1])
        weight = torch.where(bits.bool(), fraction, 1 - fraction).prod(-1)
        value = value + weight * grid[z + bits[2], y + bits[1], x + bits[0]]
    return value.clamp(max=MAX_LOG_DENSITY).exp()


class _ProposalDensity(torch.autograd.Function):
    @staticmethod
    def forward(ctx, origins, directions, edges, grid, gradient):  # pyright: ignore[reportIncompatibleMethodOverride]
        kernels = kernels_for(__name__, grid)
        density = edges.new_empty(edges.shape[0], edges.shape[1] - 1)
        kernels.density(origins, directions, edges, grid, density)
        ctx.save_for_backward(origins, directions, edges, grid, density)
        ctx.gradient, ctx.kernels = gradient, kernels
        return density

    @staticmethod
    def backward(ctx, grad_density):  # pyright: ignore[reportIncompatibleMethodOverride]
        origins, directions, edges, grid, density = ctx.saved_tensors
        into = grid.new_zeros(1, grid.numel(), 1) if ctx.gradient is None else ctx.gradient
        ctx.kernels.density_backward(origins, directions, edges, density, grad_density, grid.shape[0], into.view(-1))
        return None, None, None, into.view_as(grid) if ctx.gradient is None else None, None
