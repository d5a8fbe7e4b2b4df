"""Unbounded space into a cube (mip-NeRF 360, equation 10, with the maximum norm so that the cube is filled).

Points arrive in block units: the block's centre is the origin and its `radius_m` is 1. Inside the unit cube nothing
moves; the outside is squeezed into the shell up to 2.
"""

import torch
from jaxtyping import Float
from torch import Tensor


def contract(points: Float[Tensor, "*points 3"]) -> Float[Tensor, "*points 3"]:
    """Block units to (-2, 2)^3."""
    norm = points.abs().amax(-1, keepdim=True).clamp(min=1)
    return (2 - 1 / norm) * points / norm


def uncontract(contracted: Float[Tensor, "*points 3"]) -> Float[Tensor, "*points 3"]:
    """The inverse of `contract` on (-2, 2)^3."""
    norm = contracted.abs().amax(-1, keepdim=True).clamp(min=1)
    return contracted / (norm * (2 - norm))


def to_unit_cube(contracted: Float[Tensor, "*points 3"]) -> Float[Tensor, "*points 3"]:
    """(-2, 2)^3 to (0, 1)^3, where the grids live."""
    return contracted * 0.25 + 0.5


def spacing_from_distance(distance: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """Distance along a ray (block units, >= 0) to the coordinate in which samples are spread evenly.

    Linear up to one radius, linear in disparity beyond; smooth to first order, in [0, 1).
    """
    return torch.where(distance < 1, distance / 2, 1 - 0.5 / distance.clamp(min=1))


def distance_from_spacing(spacing: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """The inverse of `spacing_from_distance`."""
    return torch.where(spacing < 0.5, 2 * spacing, 0.5 / (1 - spacing).clamp(min=1e-9))
