"""Pieces of a pixel's cone as Gaussians (mip-NeRF, Barron et al. 2021, section 3.1).

A ray's cone is cut by the edges of its intervals into conical frusta; each is replaced by the Gaussian of the same mean
and covariance. Only the diagonal of a covariance is kept: an axis-aligned encoding uses no more.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.geometry.contraction import contract, contraction_jacobian


def frustum_moments(
    edges: Float[Tensor, "rays edges"], radii: Float[Tensor, " rays"]
) -> tuple[Float[Tensor, "rays bins"], Float[Tensor, "rays bins"], Float[Tensor, "rays bins"]]:
    """Mean distance along the axis, variance along it, and variance across it (in one direction) of each frustum.

    `radii` are those of the cones at distance 1. This is mip-NeRF's equation 7: everything is a correction to the
    middle of the interval, so that thin frusta lose no digits. Edges must not be negative.
    """
    middle, half = 0.5 * (edges[:, 1:] + edges[:, :-1]), 0.5 * edges.diff(dim=-1)
    middle2, half2 = middle.square(), half.square()
    # A frustum of no length at the apex has denominator 0; its moments are 0.
    denominator = (3 * middle2 + half2).clamp(min=torch.finfo(edges.dtype).tiny)
    share = half2 / denominator
    mean = middle + 2 * middle * share
    along = half2 / 3 - (4 / 15) * share.square() * (12 * middle2 - half2)
    across = radii[:, None].square() * (middle2 / 4 + (5 / 12) * half2 - (4 / 15) * half2 * share)
    return mean, along, across


def contracted_frustum_gaussians(
    origins: Float[Tensor, "rays 3"],
    directions: Float[Tensor, "rays 3"],
    radii: Float[Tensor, " rays"],
    edges: Float[Tensor, "rays edges"],
) -> tuple[Float[Tensor, "rays bins 3"], Float[Tensor, "rays bins 3"]]:
    """Means and variances by axis of the frusta of rays with unit `directions`, seen through `contract`.

    Rays are in block units, Gaussians in (-2, 2)^3 (mip-NeRF, equations 8 and 16). The contraction is replaced by its
    tangent at the mean, J: the covariance becomes J S J^T (mip-NeRF 360, equations 8 and 9), here its diagonal.
    """
    distance, along, across = frustum_moments(edges, radii)
    means = origins[:, None] + distance[..., None] * directions[:, None]
    jacobian = contraction_jacobian(means)
    axis = (jacobian @ directions[:, None, :, None])[..., 0].square()
    rows = jacobian.square().sum(-1)
    return contract(means), along[..., None] * axis + across[..., None] * (rows - axis)
