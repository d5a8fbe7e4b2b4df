"""Distance along a ray to the coordinate in which samples are spread evenly.

The coordinate grows with the path of the ray through contracted space: with distance inside the block, with the inverse
square of the distance to its centre outside. So a camera high above a block spends its samples in the block, not in the
air. The unit ball separates inside from outside, because its integral has a closed form. Everything is in block units.

A ray is known by `t_closest`, the distance along it at which it comes nearest to the centre, and by its impact
parameter b, how far from the centre that is. With u = distance - t_closest and w = sqrt(max(0, 1 - b^2)) the coordinate
is

    g(u) = u for |u| <= w, else sign(u) (w + (atan(|u| / b) - atan(w / b)) / b)
"""

import torch
from jaxtyping import Float
from torch import Tensor

SMALLEST_IMPACT = 1e-3  # below it, the formulas' limit for rays through the centre is as exact as float32
SHORTEST = 1e-3  # holds hardly anything, and can still be divided in float32


def closest_approach(
    origins: Float[Tensor, "rays 3"], directions: Float[Tensor, "rays 3"]
) -> tuple[Float[Tensor, "rays 1"], Float[Tensor, "rays 1"]]:
    """Where each ray (unit directions) is nearest to the centre, and how near."""
    t_closest = -(origins * directions).sum(-1, keepdim=True)
    nearest = origins + t_closest * directions
    return t_closest, nearest.norm(dim=-1, keepdim=True).clamp(min=SMALLEST_IMPACT)


def spacing_from_distance(
    distance: Float[Tensor, "rays n"], t_closest: Float[Tensor, "rays 1"], impact_parameter: Float[Tensor, "rays 1"]
) -> Float[Tensor, "rays n"]:
    """The coordinate at a distance along the ray; ascending, zero at `t_closest`."""
    u = distance - t_closest
    inner = (1 - impact_parameter.square()).clamp(min=0).sqrt()
    beyond = torch.maximum(u.abs(), inner)
    outside = (
        torch.atan2(impact_parameter * (beyond - inner), impact_parameter.square() + beyond * inner) / impact_parameter
    )
    return u.sign() * (torch.minimum(u.abs(), inner) + outside)


def distance_from_spacing(
    spacing: Float[Tensor, "rays n"], t_closest: Float[Tensor, "rays 1"], impact_parameter: Float[Tensor, "rays 1"]
) -> Float[Tensor, "rays n"]:
    """The inverse of `spacing_from_distance`."""
    inner = (1 - impact_parameter.square()).clamp(min=0).sqrt()
    slope = torch.tan(impact_parameter * (spacing.abs() - inner).clamp(min=0))
    beyond = (inner + impact_parameter * slope) / (1 - inner * slope / impact_parameter)
    return t_closest + spacing.sign() * torch.where(spacing.abs() <= inner, spacing.abs(), beyond)


def ends_in_ball(
    origins: Float[Tensor, "rays 3"], directions: Float[Tensor, "rays 3"], near: float, far: float
) -> Float[Tensor, "rays 2"]:
    """Distances at which each ray enters and leaves the unit ball, within `near` and `far`.

    A ray that misses the ball gets an interval of the length `SHORTEST`.
    """
    t_closest, impact_parameter = closest_approach(origins, directions)
    half = (1 - impact_parameter.square()).clamp(min=0).sqrt()
    enters = (t_closest - half).clamp(near, far - SHORTEST)
    leaves = torch.maximum((t_closest + half).clamp(max=far), enters + SHORTEST)
    return torch.cat([enters, leaves], -1)


def share_from_distance(
    distance: Float[Tensor, "rays n"],
    origins: Float[Tensor, "rays 3"],
    directions: Float[Tensor, "rays 3"],
    ends: Float[Tensor, "rays 2"],
) -> Float[Tensor, "rays n"]:
    """Where distances lie between the ends of their ray (0 and 1) in the coordinate: the inverse of `s_to_t`."""
    t_closest, impact_parameter = closest_approach(origins, directions)
    low, high = spacing_from_distance(ends, t_closest, impact_parameter).split(1, -1)
    return (spacing_from_distance(distance, t_closest, impact_parameter) - low) / (high - low)
