"""Distances along rays, and points in the contracted unit cube, differentiable."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.geometry.spacing import SMALLEST_IMPACT
from blocknerf.kernels.marching import reference
from blocknerf.kernels.registry import backend_for, kernels_for


def s_to_t(
    origins: Float[Tensor, "rays 3"],
    directions: Float[Tensor, "rays 3"],
    edges_s: Float[Tensor, "rays edges"],
    ends: Float[Tensor, "rays 2"],
) -> Float[Tensor, "rays edges"]:
    """Converts edges in [0, 1] to distances between the ends of each ray, even in the coordinate of geometry.spacing.

    In block units. Not differentiable: where a ray is sampled is not learned through the ray.
    """
    origins, directions = origins.detach(), directions.detach()
    if backend_for("marching.s_to_t", edges_s) == "torch":
        return reference.s_to_t(origins, directions, edges_s, ends)
    out = edges_s.new_empty(edges_s.shape)
    kernels_for("marching", edges_s).s_to_t(origins, directions, edges_s, ends, np.float32(SMALLEST_IMPACT), out)
    return out


def unit_cube_points(
    origins: Float[Tensor, "rays 3"], directions: Float[Tensor, "rays 3"], edges: Float[Tensor, "rays edges"]
) -> Float[Tensor, "rays samples 3"]:
    """Middles of all intervals, contracted, in (0, 1)^3. Rays in block units. Differentiable in the rays."""
    if backend_for("marching.unit_cube_points", edges) == "torch":
        return reference.unit_cube_points(origins, directions, edges)
    return _UnitCubePoints.apply(origins, directions, edges)  # pyright: ignore[reportReturnType]


class _UnitCubePoints(torch.autograd.Function):
    @staticmethod
    def forward(ctx, origins, directions, edges):  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.kernels = kernels_for("marching", edges)
        out = edges.new_empty(3, edges.shape[0], edges.shape[1] - 1)
        ctx.kernels.unit_cube_points(origins, directions, edges, out)
        ctx.save_for_backward(origins, directions, edges)
        return out.permute(1, 2, 0)

    @staticmethod
    def backward(ctx, grad_points):  # pyright: ignore[reportIncompatibleMethodOverride]
        origins, directions, edges = ctx.saved_tensors
        grad_origins, grad_directions = (origins.new_empty(len(origins), 3) for _ in range(2))
        ctx.kernels.unit_cube_points_backward(
            origins, directions, edges, grad_points.permute(2, 0, 1), grad_origins, grad_directions
        )
        return grad_origins, grad_directions, None
