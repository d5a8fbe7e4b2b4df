"""The proposal: a dense grid of log density over the contracted cube. Queried along rays, it decides where samples go.

Trilinear in log density; density = exp(grid value) per block radius.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.kernels.marching.reference import unit_cube_points
from blocknerf.kernels.proposal.limits import MAX_LOG_DENSITY


def proposal_density(
    origins: Float[Tensor, "rays 3"],
    directions: Float[Tensor, "rays 3"],
    edges: Float[Tensor, "rays edges"],
    grid: Float[Tensor, "z y x"],
) -> Float[Tensor, "rays samples"]:
    points = unit_cube_points(origins, directions, edges)
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
