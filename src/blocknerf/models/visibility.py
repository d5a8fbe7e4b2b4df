"""How much light from a place reaches a camera, as far as a block knows: f_v(x, d) of Block-NeRF (section 4.2.3).

Taught by the transmittance of the block's own density. A small network alone learns where its training rays went and
guesses elsewhere. It therefore also gets the camera's place (camera features) and what the block's rays met on the way
from there (block features).
"""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import grid_sample

from blocknerf.core.config.visibility_network import VisibilityConfig
from blocknerf.geometry.contraction import contract, to_unit_cube
from blocknerf.kernels.proposal.ops import proposal_density
from blocknerf.models.encodings import positional_encoding, spherical_harmonics
from blocknerf.models.networks import linear
from blocknerf.rendering.volume import transmittance

POSITION_LEVELS = 8
DIRECTION_LEVELS = 4
BEFORE_SURFACE = 0.97
"""Share of the way to a surface at which visibility is evaluated: on the surface itself half of the light is gone."""
UNKNOWN_VIEW = 0.5
"""Default viewing distance, in block radii."""
STEPS = 32
"""Intervals between a camera and a place."""
PRIOR_STOPPED, PRIOR_TRAVELLED = 0.2, 0.02
"""A cell that no ray has met stops light like fog of 10 per block radius, because nothing behind it is certain."""
MEMORY = 0.99
"""Decay of a cell's counts per batch that meets it: early, wrong densities are forgotten."""
DEPTHS = (1e-3, 8.0)
"""Optical depths are clamped to this range."""


class RayCountGrid(nn.Module):
    """What a block's training rays met, per cell of the contracted cube: counts, not learned by gradients.

    A cell's extinction is the one under which its counts are most likely: light stopped by light times distance
    travelled. Cells without counts are opaque (see PRIOR_STOPPED).
    """

    stopped: Tensor
    travelled: Tensor
    log_extinction: Tensor

    def __init__(self, resolution: int = 96):
        super().__init__()
        shape = (resolution + 1,) * 3
        self.register_buffer("stopped", torch.zeros(shape))
        self.register_buffer("travelled", torch.zeros(shape))
        self.register_buffer("log_extinction", torch.zeros(shape), persistent=False)
        self.refresh()
        self.register_load_state_dict_post_hook(lambda module, keys: module.refresh())

    @torch.no_grad()
    def add(
        self,
        origins: Float[Tensor, "rays 3"],
        directions: Float[Tensor, "rays 3"],
        edges: Float[Tensor, "rays edges"],
        weights: Float[Tensor, "rays bins"],
        rng: torch.Generator | None,
    ) -> None:
        """Counts rays (block units). An interval counts at a random place in it, without a generator at its middle."""
        arriving, lengths = transmittance(weights), edges.diff(dim=-1)
        alpha = (weights / arriving.clamp(min=1e-9)).clamp(0, 1 - 1e-6)
        thin = torch.where(alpha < 1e-4, torch.ones_like(alpha), -alpha / torch.log1p(-alpha))
        where = torch.full_like(weights, 0.5) if rng is None else torch.rand(weights.shape, generator=rng)
        at = edges[:, :-1] + where * lengths
        cells = self._nearest(origins[:, None] + at[..., None] * directions[:, None]).flatten()
        stopped, travelled, log_extinction = (
            grid.view(-1) for grid in (self.stopped, self.travelled, self.log_extinction)
        )
        for grid, counts in ((stopped, weights), (travelled, arriving * thin * lengths)):
            grid[cells] = MEMORY * grid[cells]
            grid.index_add_(0, cells, counts.flatten())
        log_extinction[cells] = _log_extinction(stopped[cells], travelled[cells])

    def seen(self, points: Float[Tensor, "*points 3"]) -> Bool[Tensor, "*points"]:
        """Whether light from these places (block units) has reached a training camera."""
        return self.travelled.view(-1)[self._nearest(points)] > 0

    def hit_count(self, points: Float[Tensor, "*points 3"]) -> Float[Tensor, "*points"]:
        """How many recent training rays ended in a cell around each point (block units), interpolated trilinearly."""
        return self._interpolated(self.stopped, points)

    def known(self, points: Float[Tensor, "*points 3"]) -> Float[Tensor, "*points"]:
        """From 0 where no training ray has been to nearly 1 where many have."""
        travelled = self._interpolated(self.travelled, points)
        return travelled / (travelled + PRIOR_TRAVELLED)

    def depths(
        self,
        origins: Float[Tensor, "rays 3"],
        directions: Float[Tensor, "rays 3"],
        distances: Float[Tensor, " rays"],
    ) -> Float[Tensor, " rays"]:
        """Optical depth from the origins to `distances` along rays in block units."""
        edges = (torch.linspace(0, 1, STEPS + 1, device=distances.device) * distances[:, None]).contiguous()
        extinction = proposal_density(origins, directions, edges, self.log_extinction)
        return (extinction * edges.diff(dim=-1)).sum(-1)

    def _interpolated(
        self, counts: Float[Tensor, "z y x"], points: Float[Tensor, "*points 3"]
    ) -> Float[Tensor, "*points"]:
        places = 2 * to_unit_cube(contract(points)) - 1
        values = grid_sample(counts[None, None], places.view(1, -1, 1, 1, 3), align_corners=True)
        return values.view(points.shape[:-1])

    def _nearest(self, points: Float[Tensor, "*points 3"]) -> Int[Tensor, "*points"]:
        corners = self.stopped.shape[0]
        x, y, z = (to_unit_cube(contract(points)) * (corners - 1)).round().long().unbind(-1)
        return (z * corners + y) * corners + x

    def refresh(self) -> None:
        """Call it after counts were changed from outside."""
        self.log_extinction.copy_(_log_extinction(self.stopped, self.travelled))


class VisibilityNetwork(nn.Module):
    """Transmittance in [0, 1] from a place to a viewer along a direction. Block units."""

    def __init__(self, config: VisibilityConfig, rng: torch.Generator | None = None):
        super().__init__()
        self.config = config
        self.sights = RayCountGrid()
        inputs = 6 * POSITION_LEVELS + DIRECTION_LEVELS**2 + config.use_camera_features + 2 * config.use_block_features
        widths = [inputs, *config.hidden_dims]
        self.hidden = nn.ModuleList(
            linear(fan_in, fan_out, rng) for fan_in, fan_out in zip(widths[:-1], widths[1:], strict=True)
        )
        self.last = linear(widths[-1], 1, None)  # zero: with block features the output starts at what the rays met

    def parameters_to_learn(self) -> list[nn.Parameter]:
        return [*self.hidden.parameters(), *self.last.parameters()]

    def forward(
        self,
        points: Float[Tensor, "points 3"],
        directions: Float[Tensor, "points 3"],
        distances: Float[Tensor, " points"] | None = None,
        rng: torch.Generator | None = None,
    ) -> Float[Tensor, " points"]:
        """See `logits`; in [0, 1]."""
        return torch.sigmoid(self.logits(points, directions, distances, rng))

    def logits(
        self,
        points: Float[Tensor, "points 3"],
        directions: Float[Tensor, "points 3"],
        distances: Float[Tensor, " points"] | None = None,
        rng: torch.Generator | None = None,
    ) -> Float[Tensor, " points"]:
        """`directions` lead from the camera to the point, at `distances` (default: UNKNOWN_VIEW).

        Without camera features the distances have no effect. With a generator, hidden units drop out.
        """
        if distances is None or not self.config.use_camera_features:
            distances = torch.full_like(points[:, 0], UNKNOWN_VIEW)
        inputs = [
            positional_encoding(math.pi / 2 * contract(points), POSITION_LEVELS),
            spherical_harmonics(directions, DIRECTION_LEVELS),
        ]
        if self.config.use_camera_features:
            inputs.append((distances / (1 + distances))[:, None])
        depth = torch.zeros_like(distances)
        if self.config.use_block_features:
            depth = self.sights.depths(points - distances[:, None] * directions, directions, distances)
            inputs.append(torch.stack([torch.exp(-depth), self.sights.known(points)], -1))
        values = torch.cat(inputs, -1)
        for layer in self.hidden:
            values = self._drop_out(layer(values).relu(), rng)
        logit = self.last(values)[:, 0]
        if self.config.use_block_features:
            logit = logit - torch.log(torch.expm1(depth.clamp(*DEPTHS)))  # the logit of exp(-depth)
        return logit

    def _drop_out(
        self, values: Float[Tensor, "points units"], rng: torch.Generator | None
    ) -> Float[Tensor, "points units"]:
        share = self.config.dropout
        if rng is None or share == 0:
            return values
        return values * (torch.rand(values.shape, generator=rng) >= share) / (1 - share)


def _log_extinction(stopped: Tensor, travelled: Tensor) -> Tensor:
    return torch.log((stopped + PRIOR_STOPPED) / (travelled + PRIOR_TRAVELLED))
