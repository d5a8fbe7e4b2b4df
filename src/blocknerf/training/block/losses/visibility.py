"""The loss of the visibility network: it learns the transmittance of the block's density, detached.

Besides the samples of training rays, there are pairs that no training ray connects: a place that the block has seen,
viewed from a random position near its cameras. Their target also comes from the block's density. It is smaller if the
way leads through cells that no training ray has passed, and zero for places in such cells: what was never in view is
not visible.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss

from blocknerf.core.types import RayBatch
from blocknerf.geometry.contraction import uncontract
from blocknerf.models.block_nerf import BlockNeRF
from blocknerf.models.visibility import BEFORE_SURFACE, UNKNOWN_VIEW
from blocknerf.rendering.volume import CompositedRays, transmittance

COUNTED_RAYS = 256
TRAINING_RAYS = 128
PAIRS = 128
SAMPLES = 2
EMPTY = 64
NEAREST_CAMERA, FARTHEST_CAMERA = 0.01, 1.0
"""Distance in block radii between random cameras and those of training rays."""
CHECKS = 8
FARTHEST_PLACE = 1.99
"""In contracted space, where infinity is at 2: this is a hundred block radii away."""
UNKNOWN_SHARE = 0.5
"""Factor of the target for each of CHECKS places on the way that no training ray has passed."""


@dataclass(frozen=True, slots=True)
class VisibilitySamples:
    """Places in block units, directions and distances from the camera to them, and the transmittance of the way."""

    points: Float[Tensor, "n 3"]
    directions: Float[Tensor, "n 3"]
    distances: Float[Tensor, " n"]
    transmittance: Float[Tensor, " n"]


def visibility_loss(
    model: BlockNeRF, rays: RayBatch, composited: CompositedRays, rng: torch.Generator | None
) -> Float[Tensor, ""]:
    """The error of the block's visibility network on `rays`, and on random pairs if it learns from them and there is a
    generator.

    `composited` is the result of the rays. Only the network gets gradients. Cross-entropy has the same minimum as the
    paper's squared error, the mean transmittance; but a prediction that is certain and wrong still gets a gradient. If
    the network is frozen, rays are not counted and the loss is 0.
    """
    network = model.visibility_network()
    if not any(parameter.requires_grad for parameter in network.parameters_to_learn()):
        return composited.weights.new_zeros(())
    sights = _visibility_samples(model, rays, composited, rng)
    logits = network.logits(sights.points, sights.directions, sights.distances, rng)
    if network.config.loss == "squared":
        return mse_loss(torch.sigmoid(logits), sights.transmittance)
    return binary_cross_entropy_with_logits(logits, sights.transmittance)


@torch.no_grad()
def _visibility_samples(
    model: BlockNeRF, rays: RayBatch, composited: CompositedRays, rng: torch.Generator | None
) -> VisibilitySamples:
    grid = model.visibility_network().sights
    if model.poses is not None:
        rays = model.poses.refine(rays)  # as they were composited
    origins = model.to_block(rays.origins)
    counted = slice(0, COUNTED_RAYS)
    grid.add(origins[counted], rays.directions[counted], composited.edges[counted], composited.weights[counted], rng)

    rows, reached = slice(0, TRAINING_RAYS), composited.distance
    aims = BEFORE_SURFACE * reached[rows]
    sights = [_along(origins[rows], rays.directions[rows], composited, rows, aims, rng)]
    if rng is not None and model.visibility_network().config.use_random_pairs:
        sights += [_pairs(model, rays, origins, reached, rng), _never_seen(model, origins, rng)]
    return VisibilitySamples(
        *(torch.cat([getattr(part, name) for part in sights]) for name in VisibilitySamples.__slots__)
    )


def _pairs(
    model: BlockNeRF,
    rays: RayBatch,
    origins: Float[Tensor, "rays 3"],
    reached: Float[Tensor, " rays"],
    rng: torch.Generator,
) -> VisibilitySamples:
    """Surfaces of some training rays, at the distances `reached`, viewed from near the cameras of other rays."""
    picks, targets = (torch.randint(len(rays), (PAIRS,), generator=rng) for _ in range(2))
    octaves = torch.rand(PAIRS, 1, generator=rng)
    aside = NEAREST_CAMERA * (FARTHEST_CAMERA / NEAREST_CAMERA) ** octaves * torch.randn(PAIRS, 3, generator=rng)
    cameras = origins[picks] + aside
    ways = origins[targets] + reached[targets, None] * rays.directions[targets] - cameras
    distances = ways.norm(dim=-1).clamp(min=1e-6)
    directions = ways / distances[:, None]
    looks = replace(rays[picks], origins=model.to_world(cameras), directions=directions)
    _, seen = model.composite(looks, model.codes_of(looks.image_slots), None)
    sights = _along(cameras, directions, seen, slice(None), BEFORE_SURFACE * distances, rng)
    return replace(sights, transmittance=sights.transmittance * _known(model, sights))


def _along(
    origins: Float[Tensor, "rays 3"],
    directions: Float[Tensor, "rays 3"],
    composited: CompositedRays,
    rows: slice,
    aims: Float[Tensor, " rays"],
    rng: torch.Generator | None,
) -> VisibilitySamples:
    """For every ray, SAMPLES of its samples and the place at distance `aims`."""
    edges, arriving = composited.edges[rows], transmittance(composited.weights[rows])
    bins = arriving.shape[1]
    if rng is None:
        picks = torch.linspace(0, bins - 1, SAMPLES).round().long().expand(len(origins), -1)
    else:
        picks = torch.randint(bins, (len(origins), SAMPLES), generator=rng)
    aimed = (torch.searchsorted(edges.contiguous(), aims[:, None].contiguous()) - 1).clamp(0, bins - 1)
    middles = 0.5 * (edges[:, 1:] + edges[:, :-1])
    distances = torch.cat([middles.gather(1, picks), aims[:, None]], 1)
    points = origins[:, None] + distances[..., None] * directions[:, None]
    return VisibilitySamples(
        points.flatten(0, 1),
        directions[:, None].expand_as(points).flatten(0, 1),
        distances.flatten(),
        arriving.gather(1, torch.cat([picks, aimed], 1)).flatten(),
    )


def _known(model: BlockNeRF, sights: VisibilitySamples) -> Float[Tensor, " n"]:
    """How much of the way from the camera the block knows; 0 if it does not know the place itself."""
    grid = model.visibility_network().sights
    back = torch.linspace(1, 0, CHECKS)[:, None, None] * (sights.distances[:, None] * sights.directions)
    met = grid.seen(sights.points - back)
    return met[-1] * UNKNOWN_SHARE ** (~met).sum(0)


def _never_seen(model: BlockNeRF, origins: Float[Tensor, "rays 3"], rng: torch.Generator) -> VisibilitySamples:
    """Random places that no training ray has passed, viewed from training cameras and from near: transmittance 0."""
    places = uncontract(FARTHEST_PLACE * (2 * torch.rand(EMPTY, 3, generator=rng) - 1))
    cameras = origins[torch.randint(len(origins), (EMPTY,), generator=rng)]
    near = places + UNKNOWN_VIEW * torch.randn(EMPTY, 3, generator=rng)
    cameras = torch.where(torch.rand(EMPTY, 1, generator=rng) < 0.5, cameras, near)
    empty = ~model.visibility_network().sights.seen(places)
    ways = (places - cameras)[empty]
    distances = ways.norm(dim=-1).clamp(min=1e-6)
    return VisibilitySamples(places[empty], ways / distances[:, None], distances, torch.zeros_like(distances))
