"""Distance along a ray to the coordinate in which samples are spread evenly.

The coordinate grows with the path of the ray through contracted space: with distance inside the block, with the inverse
square of the distance to its centre outside. So a camera high above a block spends its samples in the block, not in the
air. The unit ball separates inside from outside, because its integral has a closed form. Everything is in block units.

A ray is known by its `foot`, the distance along it at which it comes nearest to the centre, and its `impact`, how far
from the centre that is. With u = distance - foot and w = sqrt(max(0, 1 - impact^2)) the coordinate is

    g(u) = u for |u| <= w, else sign(u) (w + (atan(|u| / impact) - atan(w / impact)) / impact)
"""

import torch
from jaxtyping import Float
from torch import Tensor

SMALLEST_IMPACT = 1e-3  # below it, the formulas' limit for rays through the centre is as exact as float32


def closest_approach(
    origins: Float[Tensor, "rays 3"], directions: Float[Tensor, "rays 3"]
) -> tuple[Float[Tensor, "rays 1"], Float[Tensor, "rays 1"]]:
    """Where each ray (unit directions) is nearest to the centre, and how near."""
    foot = -(origins * directions).sum(-1, keepdim=True)
    nearest = origins + foot * directions
    return foot, nearest.norm(dim=-1, keepdim=True).clamp(min=SMALLEST_IMPACT)


def spacing_from_distance(
    distance: Float[Tensor, "rays n"], foot: Float[Tensor, "rays 1"], impact: Float[Tensor, "rays 1"]
) -> Float[Tensor, "rays n"]:
    """The coordinate at a distance along the ray; ascending, zero at the foot."""
    u = distance - foot
    inner = (1 - impact.square()).clamp(min=0).sqrt()
    beyond = torch.maximum(u.abs(), inner)
    outside = torch.atan2(impact * (beyond - inner), impact.square() + beyond * inner) / impact
    return u.sign() * (torch.minimum(u.abs(), inner) + outside)


def distance_from_spacing(
    spacing: Float[Tensor, "rays n"], foot: Float[Tensor, "rays 1"], impact: Float[Tensor, "rays 1"]
) -> Float[Tensor, "rays n"]:
    """The inverse of `spacing_from_distance`."""
    inner = (1 - impact.square()).clamp(min=0).sqrt()
    slope = torch.tan(impact * (spacing.abs() - inner).clamp(min=0))
    beyond = (inner + impact * slope) / (1 - inner * slope / impact)
    return foot + spacing.sign() * torch.where(spacing.abs() <= inner, spacing.abs(), beyond)
