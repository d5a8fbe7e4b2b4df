"""Loss terms without photographs: small weights, density without ripples, short codes."""

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.models.block_nerf import BlockNeRF
from blocknerf.training.block.losses.terms import laplacian_smoothness, squared_weights

SMOOTHNESS_SHARE, CODE_SHARE = 0.01, 0.001
STENCIL_STEP = 1 / 32
"""In block radii: a cell of the default proposal grid."""
PLACES_A_SIDE = 6
_STEPS = torch.tensor([[0, 0, 0], [-1, 0, 0], [1, 0, 0], [0, -1, 0], [0, 1, 0], [0, 0, -1], [0, 0, 1]])


def regularization(model: BlockNeRF, rng: torch.Generator | None) -> Float[Tensor, ""]:
    """Squared weights of the field's networks, a hundredth of the Laplacian of density, a thousandth of mean |code|.

    The Laplacian is that of the optical depth of STENCIL_STEP, at random places of the block; without a generator, on a
    regular grid. Codes are residuals: what the block learned for single images.
    """
    smoothness = laplacian_smoothness(density_stencils(model, rng))
    total = squared_weights(model.field.networks()) + SMOOTHNESS_SHARE * smoothness
    return total if model.appearance is None else total + CODE_SHARE * model.appearance.size()


def density_stencils(model: BlockNeRF, rng: torch.Generator | None) -> Float[Tensor, "places 7"]:
    """The block's density, times STENCIL_STEP, at places in its cube and at the six neighbours of each."""
    if rng is None:
        side = (torch.arange(PLACES_A_SIDE) + 0.5) / PLACES_A_SIDE
        places = torch.cartesian_prod(side, side, side)
    else:
        places = torch.rand(PLACES_A_SIDE**3, 3, generator=rng)
    points = ((2 * places - 1)[:, None] + STENCIL_STEP * _STEPS.to(places)).to(model.center_world)
    return STENCIL_STEP * model.field.density_at(points.reshape(-1, 3)).reshape(-1, 7)
