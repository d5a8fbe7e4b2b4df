"""Emission-absorption compositing (Max 1995; mip-NeRF 360, section 2) of densities and features along rays.

weight_i = (1 - exp(-density_i delta_i)) exp(-sum_{j<i} density_j delta_j): the transmittance is exclusive.
"""

import torch
from jaxtyping import Float
from torch import Tensor


def render_weights(
    density: Float[Tensor, "rays samples"], edges: Float[Tensor, "rays edges"]
) -> Float[Tensor, "rays samples"]:
    optical_depth = density * edges.diff(dim=-1)
    before = torch.nn.functional.pad(optical_depth[..., :-1], (1, 0)).cumsum(-1)
    return -torch.expm1(-optical_depth) * torch.exp(-before)


def accumulate(
    weights: Float[Tensor, "rays samples"], values: Float[Tensor, "rays samples channels"]
) -> Float[Tensor, "rays channels"]:
    return (weights.unsqueeze(-2) @ values).squeeze(-2)
