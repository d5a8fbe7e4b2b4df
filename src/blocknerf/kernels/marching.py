"""Places along rays: spacing to distance, and intervals to points in the contracted unit cube."""

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.geometry.contraction import contract, distance_from_spacing, to_unit_cube
from blocknerf.kernels import marching_numba
from blocknerf.kernels.registry import backend_for


def distances(edges_s: Float[Tensor, "rays edges"], near_s: float, far_s: float) -> Float[Tensor, "rays edges"]:
    """Edges in [0, 1] to distances in block units; `near_s` and `far_s` are spacing coordinates. No gradient."""
    if backend_for(edges_s) == "torch":
        return distance_from_spacing(near_s + (far_s - near_s) * edges_s)
    out = torch.empty_like(edges_s)
    marching_numba.distances(edges_s.numpy(), near_s, far_s, out.numpy())
    return out


def unit_cube_points(
    origins: Float[Tensor, "rays 3"], directions: Float[Tensor, "rays 3"], edges: Float[Tensor, "rays edges"]
) -> Float[Tensor, "rays samples 3"]:
    """Middles of all intervals, contracted, in (0, 1)^3. Rays in block units.

    Differentiable in the rays, for which the twin is used.
    """
    if backend_for(edges) == "torch" or origins.requires_grad or directions.requires_grad:
        return unit_cube_points_torch(origins, directions, edges)
    out = torch.empty(edges.shape[0], edges.shape[1] - 1, 3)
    marching_numba.unit_cube_points(origins.numpy(), directions.numpy(), edges.numpy(), out.numpy())
    return out


def unit_cube_points_torch(
    origins: Float[Tensor, "rays 3"], directions: Float[Tensor, "rays 3"], edges: Float[Tensor, "rays edges"]
) -> Float[Tensor, "rays samples 3"]:
    middles = 0.5 * (edges[:, 1:] + edges[:, :-1])
    return to_unit_cube(contract(origins[:, None] + middles[..., None] * directions[:, None]))
