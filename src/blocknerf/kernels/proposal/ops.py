"""Density of the proposal's grid along rays, differentiable."""

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.kernels.proposal import reference
from blocknerf.kernels.registry import backend_for, kernels_for
from blocknerf.kernels.row_gradient import redirect_grad


def proposal_density(
    origins: Float[Tensor, "rays 3"],
    directions: Float[Tensor, "rays 3"],
    edges: Float[Tensor, "rays edges"],
    grid: Float[Tensor, "z y x"],
    gradient: Float[Tensor, "1 cells 1"] | None = None,
) -> Float[Tensor, "rays samples"]:
    """Density (per block radius) at the middle of every interval, rays in block units. Differentiable in the grid.

    If `gradient` is given (one level, one feature, the cells in row-major order as rows), the grid's gradient is added
    to it instead of `grid.grad`.
    """
    if backend_for("proposal.density", grid) == "torch":
        collected = grid if gradient is None else redirect_grad(grid, gradient)
        return reference.proposal_density(origins, directions, edges, collected)
    return _ProposalDensity.apply(origins, directions, edges, grid, gradient)  # pyright: ignore[reportReturnType]


class _ProposalDensity(torch.autograd.Function):
    @staticmethod
    def forward(ctx, origins, directions, edges, grid, gradient):  # pyright: ignore[reportIncompatibleMethodOverride]
        kernels = kernels_for("proposal", grid)
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
