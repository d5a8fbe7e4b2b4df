"""Places along rays: spacing to distance, and intervals to points in the contracted unit cube."""

from jaxtyping import Float
from torch import Tensor

from blocknerf.geometry.contraction import contract, to_unit_cube
from blocknerf.geometry.spacing import closest_approach, distance_from_spacing, spacing_from_distance


def s_to_t(
    origins: Float[Tensor, "rays 3"],
    directions: Float[Tensor, "rays 3"],
    edges_s: Float[Tensor, "rays edges"],
    ends: Float[Tensor, "rays 2"],
) -> Float[Tensor, "rays edges"]:
    t_closest, impact_parameter = closest_approach(origins, directions)
    low, high = spacing_from_distance(ends, t_closest, impact_parameter).split(1, -1)
    return distance_from_spacing(low + (high - low) * edges_s, t_closest, impact_parameter)


def unit_cube_points(
    origins: Float[Tensor, "rays 3"], directions: Float[Tensor, "rays 3"], edges: Float[Tensor, "rays edges"]
) -> Float[Tensor, "rays samples 3"]:
    middles = 0.5 * (edges[:, 1:] + edges[:, :-1])
    return to_unit_cube(contract(origins[:, None] + middles[..., None] * directions[:, None]))
