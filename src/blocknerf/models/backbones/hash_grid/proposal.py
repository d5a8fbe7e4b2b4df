"""The proposal grid, which decides where a ray is sampled."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from blocknerf.kernels.proposal.ops import proposal_density
from blocknerf.models.backbones.interface import TableLoss


class ProposalGrid(nn.Module):
    """A dense grid of log density over the contracted cube; starts as fog of one per block radius."""

    rate_ratio = 10.0  # log densities are in nats: they must move further than features do
    loss: TableLoss = "interlevel"

    def __init__(self, resolution: int):
        super().__init__()
        self.log_density = nn.Parameter(torch.zeros(resolution + 1, resolution + 1, resolution + 1))
        self.gradient: Tensor | None = None

    @property
    def rows(self) -> Float[Tensor, "1 cells 1"]:
        return self.log_density.view(1, -1, 1)

    def set_trainable(self, learns: bool) -> None:
        self.log_density.requires_grad_(learns)

    def start_fog(self, per_radius: float) -> None:
        """Makes it fog of that density everywhere."""
        with torch.no_grad():
            self.log_density.fill_(math.log(per_radius))

    def forward(
        self,
        origins: Float[Tensor, "rays 3"],
        directions: Float[Tensor, "rays 3"],
        edges: Float[Tensor, "rays edges"],
    ) -> Float[Tensor, "rays bins"]:
        return proposal_density(origins, directions, edges, self.log_density, self.gradient)
