"""A learned encoding of positions: hash tables at several resolutions (Mueller et al. 2022)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from blocknerf.kernels.hash_grid.ops import FEATURES, hash_encode, level_resolutions
from blocknerf.models.backbones.hash_grid.keys import HashGridConfig
from blocknerf.models.backbones.interface import TableLoss
from blocknerf.models.encodings import level_weights, num_active_levels

TABLE_INIT = 1e-4  # uniform within plus and minus this (Mueller et al. 2022, section 4)


class HashGrid(nn.Module):
    """A multiresolution hash table over the unit cube; `gradient` collects what the sparse optimiser consumes."""

    resolutions: Tensor
    rate_ratio = 1.0
    loss: TableLoss = "rgb"

    def __init__(self, config: HashGridConfig, rng: torch.Generator | None = None):
        super().__init__()
        shape = (config.num_levels, 2**config.log2_table_rows, FEATURES)
        table = torch.zeros(shape)
        if rng is not None:
            table.uniform_(-TABLE_INIT, TABLE_INIT, generator=rng)
        self.table = nn.Parameter(table)
        resolutions = level_resolutions(config.num_levels, config.base_resolution, config.finest_resolution)
        self.register_buffer("resolutions", resolutions, persistent=False)
        self.gradient: Tensor | None = None
        self.active_levels = float(config.num_levels)
        """Number of active levels, coarsest first; the last one may be partly active."""

    @property
    def rows(self) -> Float[Tensor, "levels rows features"]:
        return self.table

    def set_trainable(self, learns: bool) -> None:
        self.table.requires_grad_(learns)

    @property
    def width(self) -> int:
        return self.table.shape[0] * FEATURES

    def set_encoding_progress(self, share: float) -> None:
        """Switches on the coarsest levels (see `num_active_levels`) and this share of the others; all from 1 on."""
        self.active_levels = num_active_levels(self.table.shape[0], share)

    def forward(self, points: Float[Tensor, "points 3"]) -> Float[Tensor, "points encoding"]:
        encoded = hash_encode(points, self.table, self.resolutions, self.gradient)
        levels = self.table.shape[0]
        if self.active_levels >= levels:
            return encoded
        return encoded * level_weights(levels, self.active_levels).repeat_interleave(FEATURES).to(encoded)
