"""The paper's radiance field: mip-NeRF with a deeper colour head (Block-NeRF, section 4.1 and figure 3).

Positions are encoded as Gaussians in contracted space. Inside the block the contraction is the identity, and this is
mip-NeRF to the letter. Outside, mip-NeRF's encoding would repeat every 2 pi block radii, like its slowest sinusoid;
contracted as in mip-NeRF 360, all of space is within one period.
"""

from functools import partial
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from blocknerf.core.config.distributed import FieldPart
from blocknerf.geometry.cones import contracted_frustum_gaussians
from blocknerf.geometry.contraction import contract
from blocknerf.models.backbones.interface import RowTable
from blocknerf.models.backbones.mip_nerf.keys import MipNerfKeys
from blocknerf.models.encodings import (
    integrated_positional_encoding,
    level_weights,
    num_active_levels,
    positional_encoding,
)
from blocknerf.models.networks import density_of, linear, mlp_layers, rgb_of
from blocknerf.models.recompute import recomputed
from blocknerf.rendering.hierarchical import composite_coarse_and_fine
from blocknerf.rendering.volume import CompositedRays, RaySamplingConfig

HEAD_WIDTH = 128
SAMPLES_RECOMPUTED = 2**12  # samples per chunk, when activations are recomputed in backward
SAMPLES_AT_ONCE = 2**15  # when rendering: a layer's activations stay below 150 MB at the paper's width


class MLPField(nn.Module):
    """The `mlp` backbone (see `Backbone`): one network for density and features, one for colour, evaluated at every
    sample.

    `skip_connections` name layers, counted from 0, after which the encoding joins the features again.
    """

    stands_with_encoder = False

    def __init__(
        self,
        config: MipNerfKeys,
        code_dim: int,
        spacing: RaySamplingConfig,
        white_background: bool = False,
        rng: torch.Generator | None = None,
    ):
        super().__init__()
        self.spacing, self.white_background, self.config = spacing, white_background, config
        encoded, width = 6 * config.pos_encoding_levels, config.hidden_dim
        fan_ins = [width + encoded * (layer in config.skip_connections) for layer in range(config.num_layers - 1)]
        self.trunk = nn.ModuleList(linear(fan_in, width, rng) for fan_in in (encoded, *fan_ins))
        self.density = linear(width, 1, rng, gain=0.1)  # even fog: nowhere so thin that relu gives no gradient
        self.features = linear(width, width, rng)
        conditions = 3 + 6 * config.dir_encoding_levels + code_dim
        self.head = mlp_layers([width + conditions, HEAD_WIDTH, HEAD_WIDTH, HEAD_WIDTH, 3], rng)
        self.set_encoding_progress(1.0)
        self.encoder_device: torch.device | None = None
        self.recomputes = False
        self.rays_at_once = max(1, SAMPLES_AT_ONCE // max(spacing.num_coarse, spacing.num_fine))

    def composite(
        self,
        origins: Float[Tensor, "rays 3"],
        directions: Float[Tensor, "rays 3"],
        radii: Float[Tensor, " rays"],
        codes: Float[Tensor, "rays code"] | None,
        rng: torch.Generator | None,
    ) -> tuple[Float[Tensor, "rays 3"], CompositedRays]:
        field = partial(self.query_intervals, origins, directions, radii, codes)
        if self.recomputes and torch.is_grad_enabled():
            field = partial(self._query_intervals_recomputed, origins, directions, radii, codes)
        composited = composite_coarse_and_fine(
            origins,
            directions,
            self.spacing,
            field,
            rng,
            hierarchical=self.config.use_hierarchical_sampling,
            white_background=self.white_background,
        )
        return composited.features, composited

    def query(
        self,
        points: Float[Tensor, "points 3"],
        directions: Float[Tensor, "points 3"],
        codes: Float[Tensor, "points code"] | None,
    ) -> tuple[Float[Tensor, " points"], Float[Tensor, "points 3"]]:
        density, rgb = self._query(self._encode_points(points)[:, None], directions, codes)
        return density[:, 0], rgb[:, 0]

    def density_at(self, points: Float[Tensor, "points 3"]) -> Float[Tensor, " points"]:
        return self._density_and_hidden(self._encode_points(points))[0].to(points)

    def query_intervals(
        self,
        origins: Float[Tensor, "rays 3"],
        directions: Float[Tensor, "rays 3"],
        radii: Float[Tensor, " rays"],
        codes: Float[Tensor, "rays code"] | None,
        edges: Float[Tensor, "rays edges"],
    ) -> tuple[Float[Tensor, "rays bins"], Float[Tensor, "rays bins 3"]]:
        """Density (per block radius) and colour of the conical frusta between edges. Differentiable in the rays too."""
        cones = (tensor.to(self.encoder_device) for tensor in (origins, directions, radii, edges))
        means, variances = contracted_frustum_gaussians(*cones)
        return self._query(self._encode(means, variances), directions, codes)

    def _query_intervals_recomputed(
        self,
        origins: Float[Tensor, "rays 3"],
        directions: Float[Tensor, "rays 3"],
        radii: Float[Tensor, " rays"],
        codes: Float[Tensor, "rays code"] | None,
        edges: Float[Tensor, "rays edges"],
    ) -> tuple[Float[Tensor, "rays bins"], Float[Tensor, "rays bins 3"]]:
        rays = max(1, SAMPLES_RECOMPUTED // (edges.shape[1] - 1))
        density, rgb = recomputed(self.query_intervals, rays, origins, directions, radii, codes, edges)
        return density, rgb

    def set_encoding_progress(self, share: float) -> None:
        self.active_levels = num_active_levels(self.config.pos_encoding_levels, share)

    def move(self, part: FieldPart, device: torch.device) -> None:
        if part == "encoder":
            self.encoder_device = device
        else:
            for network in (self.head,) if part == "decoder" else (self.trunk, self.density, self.features):
                network.to(device)

    def sparse_tables(self) -> dict[str, RowTable]:
        return {}

    def code_layer(self) -> nn.Linear:
        return cast(nn.Linear, self.head[0])

    def networks(self) -> list[nn.Parameter]:
        return list(self.parameters())

    def _encode_points(self, points: Float[Tensor, "points 3"]) -> Float[Tensor, "points encoding"]:
        contracted = contract(points.to(self.encoder_device))
        return self._encode(contracted, torch.zeros_like(contracted))

    def _encode(
        self, means: Float[Tensor, "*samples 3"], variances: Float[Tensor, "*samples 3"]
    ) -> Float[Tensor, "*samples encoding"]:
        levels = self.config.pos_encoding_levels
        if self.config.use_integrated_pos_enc:
            encoded = integrated_positional_encoding(means, variances, levels)
        else:
            encoded = positional_encoding(means, levels)
        if self.active_levels >= levels:
            return encoded
        return encoded * level_weights(levels, self.active_levels).repeat_interleave(3).repeat(2).to(encoded)

    def _query(
        self,
        encoded: Float[Tensor, "rays samples encoding"],
        directions: Float[Tensor, "rays 3"],
        codes: Float[Tensor, "rays code"] | None,
    ) -> tuple[Float[Tensor, "rays samples"], Float[Tensor, "rays samples 3"]]:
        """Moves tensors to the network's device; results come back to that of the rays."""
        density, hidden = self._density_and_hidden(encoded)
        conditions = [directions, positional_encoding(directions, self.config.dir_encoding_levels)]
        if codes is not None:
            conditions.append(codes)
        per_ray = torch.cat(conditions, -1)[:, None].expand(-1, encoded.shape[1], -1)
        inputs = [tensor.to(cast(nn.Linear, self.head[0]).weight.device) for tensor in (self.features(hidden), per_ray)]
        rgb = self.head(torch.cat(inputs, -1)).to(directions)
        return density.to(directions), rgb_of(rgb, self.config.rgb_activation)

    def _density_and_hidden(
        self, encoded: Float[Tensor, "*samples encoding"]
    ) -> tuple[Float[Tensor, "*samples"], Float[Tensor, "*samples hidden"]]:
        hidden = encoded = encoded.to(self.density.weight.device)
        for layer, dense in enumerate(self.trunk):
            hidden = cast(nn.Linear, dense)(hidden).relu()
            if layer in self.config.skip_connections:
                hidden = torch.cat([hidden, encoded], -1)
        return density_of(self.density(hidden)[..., 0].to(encoded), self.config.density_activation), hidden
