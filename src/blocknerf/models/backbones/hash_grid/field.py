"""The fast radiance field: hash grid, a small network for density and features, a head that shades a whole ray.

The head runs once a ray, on features composited along it (deferred shading: Hedman et al. 2021; Duckworth et al.
2024), not once a sample: most of the arithmetic of a hash-grid field is its colour network.
"""

from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from blocknerf.core.config.distributed import FieldPart
from blocknerf.geometry.contraction import contract, to_unit_cube
from blocknerf.kernels.marching.ops import unit_cube_points
from blocknerf.kernels.mlp.ops import fused_mlp, fused_mlp_three
from blocknerf.models.backbones.hash_grid.grid import HashGrid
from blocknerf.models.backbones.hash_grid.keys import HashKeys
from blocknerf.models.backbones.hash_grid.proposal import ProposalGrid
from blocknerf.models.backbones.interface import RowTable
from blocknerf.models.encodings import spherical_harmonics
from blocknerf.models.networks import density_of, mlp_layers, rgb_of
from blocknerf.models.recompute import recomputed
from blocknerf.rendering.volume import CompositedRays, RaySamplingConfig, composite_rays

NUM_FEATURES = 15
RECOMPUTED_AT_ONCE = 1024  # rays


class HashField(nn.Module):
    """The `hash` backbone (see `Backbone`): a proposal grid places samples; a hash grid and networks evaluate them."""

    rays_at_once = 4096  # the samples' features stay in the processor's cache

    stands_with_encoder = True

    def __init__(
        self,
        config: HashKeys,
        code_dim: int,
        spacing: RaySamplingConfig,
        white_background: bool = False,
        rng: torch.Generator | None = None,
    ):
        super().__init__()
        self.spacing, self.white_background, self.config = spacing, white_background, config
        self.grid = HashGrid(config.hash_grid, rng)
        width = config.hidden_dim
        self.base = mlp_layers([self.grid.width, width, 1 + NUM_FEATURES], rng)
        self.head = mlp_layers([NUM_FEATURES + config.dir_encoding_levels**2 + code_dim, width, width, 3], rng)
        self.proposal = ProposalGrid(config.proposal_resolution)
        self.recomputes = False

    def composite(
        self,
        origins: Float[Tensor, "rays 3"],
        directions: Float[Tensor, "rays 3"],
        radii: Float[Tensor, " rays"],
        codes: Float[Tensor, "rays code"] | None,
        rng: torch.Generator | None,
    ) -> tuple[Float[Tensor, "rays 3"], CompositedRays]:
        """See `Backbone`. A grid does not use a pixel's width: `radii` have no effect."""
        ask = self.density_and_features
        if self.recomputes and torch.is_grad_enabled():
            ask = self._recomputed
        near = self.config.full_gradient_radii
        composited = composite_rays(origins, directions, self.spacing, self.proposal, ask, rng, near)
        rgb = self.shade(composited.features, directions, codes)
        if self.white_background:
            opacity = composited.opacity[:, None]
            rgb = rgb * opacity + (1 - opacity)
        return rgb, composited

    def query_intervals(
        self,
        origins: Float[Tensor, "rays 3"],
        directions: Float[Tensor, "rays 3"],
        radii: Float[Tensor, " rays"],
        codes: Float[Tensor, "rays code"] | None,
        edges: Float[Tensor, "rays edges"],
    ) -> tuple[Float[Tensor, "rays bins"], Float[Tensor, "rays bins 3"]]:
        """See `Backbone`. The colour of an interval is that of a ray that meets nothing else."""
        density, features = self.density_and_features(unit_cube_points(origins, directions, edges))
        bins = density.shape[1]
        alike = None if codes is None else codes.repeat_interleave(bins, 0)
        rgb = self.shade(features.flatten(0, 1), directions.repeat_interleave(bins, 0), alike)
        return density, rgb.reshape(-1, bins, 3)

    def query(
        self,
        points: Float[Tensor, "points 3"],
        directions: Float[Tensor, "points 3"],
        codes: Float[Tensor, "points code"] | None,
    ) -> tuple[Float[Tensor, " points"], Float[Tensor, "points 3"]]:
        density, features = self.density_and_features(to_unit_cube(contract(points)))
        return density, self.shade(features, directions, codes)

    def density_at(self, points: Float[Tensor, "points 3"]) -> Float[Tensor, " points"]:
        return self.density_and_features(to_unit_cube(contract(points)))[0]

    def set_encoding_progress(self, share: float) -> None:
        self.grid.set_encoding_progress(share)

    def start_fog(self, per_radius: float) -> None:
        self.proposal.start_fog(per_radius)

    def move(self, part: FieldPart, device: torch.device) -> None:
        """The tables are the encoder, and are on the block's device (see `ModelParallelBlockNeRF`)."""
        if part != "encoder":
            (self.base if part == "nerf_mlp" else self.head).to(device)

    def sparse_tables(self) -> dict[str, RowTable]:
        return {"table": self.grid, "proposal": self.proposal}

    def code_layer(self) -> nn.Linear:
        return cast(nn.Linear, self.head[0])

    def networks(self) -> list[nn.Parameter]:
        return [*self.base.parameters(), *self.head.parameters()]

    def density_and_features(
        self, points: Float[Tensor, "*samples 3"]
    ) -> tuple[Float[Tensor, "*samples"], Float[Tensor, "*samples features"]]:
        """At points of the contracted unit cube; density per block radius."""
        shape = points.shape[:-1]
        encoded = self.grid(points.reshape(-1, 3))
        first, second = cast(nn.Linear, self.base[0]), cast(nn.Linear, self.base[2])
        placed = encoded.to(first.weight.device)
        raw_density, features = fused_mlp(placed, first.weight, first.bias, second.weight, second.bias)
        density = density_of(raw_density.to(encoded), self.config.density_activation)
        return density.reshape(shape), features.to(encoded).reshape(*shape, NUM_FEATURES)

    def _recomputed(
        self, points: Float[Tensor, "rays samples 3"]
    ) -> tuple[Float[Tensor, "rays samples"], Float[Tensor, "rays samples features"]]:
        density, features = recomputed(self.density_and_features, RECOMPUTED_AT_ONCE, points)
        return density, features

    def shade(
        self,
        features: Float[Tensor, "rays features"],
        directions: Float[Tensor, "rays 3"],
        codes: Float[Tensor, "rays code"] | None,
    ) -> Float[Tensor, "rays 3"]:
        """Colour in [0, 1]. Appearance enters here and nowhere else, so that it cannot explain geometry."""
        inputs = [features, spherical_harmonics(directions, self.config.dir_encoding_levels)]
        if codes is not None:
            inputs.append(codes)
        together = torch.cat([values.t() for values in inputs]).t()  # channel after channel, as kernels need them
        placed = together.to(cast(nn.Linear, self.head[0]).weight.device)
        return rgb_of(fused_mlp_three(placed, *self.head.parameters()).to(features), self.config.rgb_activation)
