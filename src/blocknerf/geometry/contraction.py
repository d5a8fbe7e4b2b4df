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


def contraction_jacobian(points: Float[Tensor, "*points 3"]) -> Float[Tensor, "*points 3 3"]:
    """Derivatives of `contract` at points; row i holds those of its coordinate i."""
    norm = points.abs().amax(-1, keepdim=True).clamp(min=1)
    scale, slope = (2 - 1 / norm) / norm, 2 * (1 / norm - 1) / norm.square()
    largest = torch.nn.functional.one_hot(points.abs().argmax(-1), 3).to(points) * points.sign()
    identity = torch.eye(3, dtype=points.dtype, device=points.device)
    return scale[..., None] * identity + slope[..., None] * points[..., :, None] * largest[..., None, :]


def uncontract(contracted: Float[Tensor, "*points 3"]) -> Float[Tensor, "*points 3"]:
    """The inverse of `contract` on (-2, 2)^3."""
    norm = contracted.abs().amax(-1, keepdim=True).clamp(min=1)
    return contracted / (norm * (2 - norm))


def to_unit_cube(contracted: Float[Tensor, "*points 3"]) -> Float[Tensor, "*points 3"]:
    """(-2, 2)^3 to (0, 1)^3, where the grids live."""
    return contracted * 0.25 + 0.5
