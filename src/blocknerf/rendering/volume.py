"""From ray to pixel: propose, resample, query the field, composite. Takes callables, never a model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from blocknerf.geometry.spacing import ends_in_ball
from blocknerf.kernels.compositing.ops import accumulate, render_weights
from blocknerf.kernels.histograms.ops import resample
from blocknerf.kernels.marching.ops import s_to_t, unit_cube_points

SURELY_EMPTY, LIKELY_EMPTY = 1e-3, 0.03
"""Opacity of the proposal below which a ray of a bounded block is not asked of the field, in pictures and in training.
"""
ASKED_ANYWAY = 0.125
"""Share of such rays in training."""

DensityAlongRays = Callable[
    [Float[Tensor, "rays 3"], Float[Tensor, "rays 3"], Float[Tensor, "rays edges"]], Float[Tensor, "rays bins"]
]
FieldAtPoints = Callable[
    [Float[Tensor, "rays samples 3"]], tuple[Float[Tensor, "rays samples"], Float[Tensor, "rays samples features"]]
]


@dataclass(frozen=True, slots=True)
class RaySamplingConfig:
    """Range of samples along a ray, in block units, and their number."""

    near: float
    far: float
    num_coarse: int
    num_fine: int
    bounded: bool = False
    """Whether samples are only inside the ball that touches the sides of the block's cube."""

    def ends(self, origins: Float[Tensor, "rays 3"], directions: Float[Tensor, "rays 3"]) -> Float[Tensor, "rays 2"]:
        """Distances at which rays in block units begin and end."""
        if self.bounded:
            return ends_in_ball(origins.detach(), directions.detach(), self.near, self.far)
        return origins.new_tensor([self.near, self.far]).expand(len(origins), 2)


@dataclass(frozen=True, slots=True)
class CompositedRays:
    """The result of compositing a ray: features, opacity, and their histograms.

    `coarse_rgb` is the colour of the first histogram, if that comes from the field itself and is trained.
    """

    features: Float[Tensor, "rays features"]
    opacity: Float[Tensor, " rays"]
    edges: Float[Tensor, "rays fine_edges"]  # distances, block units
    edges_s: Float[Tensor, "rays fine_edges"]
    weights: Float[Tensor, "rays fine_bins"]
    proposal_edges_s: Float[Tensor, "rays edges"]
    proposal_weights: Float[Tensor, "rays bins"]
    coarse_rgb: Float[Tensor, "rays 3"] | None = None

    @property
    def distance(self) -> Float[Tensor, " rays"]:
        """Mean distance of what stops the ray, block units; see `expected_distance`. No gradient."""
        return expected_distance(self.weights.detach(), self.edges)

    def __getitem__(self, index: slice | Tensor) -> "CompositedRays":
        values: list[Any] = [getattr(self, field.name) for field in fields(self)]
        chosen: list[Any] = [None if value is None else value[index] for value in values]
        return CompositedRays(*chosen)

    @staticmethod
    def concatenate(parts: Sequence["CompositedRays"]) -> "CompositedRays":
        """The rays of all `parts`, which come from one field."""
        columns: list[Any] = [[getattr(part, field.name) for part in parts] for field in fields(CompositedRays)]
        together: list[Any] = [None if column[0] is None else torch.cat(column) for column in columns]
        return CompositedRays(*together)


def composite_rays(
    origins: Float[Tensor, "rays 3"],
    directions: Float[Tensor, "rays 3"],
    spacing: RaySamplingConfig,
    proposal: DensityAlongRays,
    field: FieldAtPoints,
    rng: torch.Generator | None = None,
    full_gradient_from: float = 0.0,
) -> CompositedRays:
    """Rays and distances in block units; the field is queried at points of the contracted unit cube.

    Without a generator every sample is in the middle of its interval. Samples nearer to the origin of their ray than
    `full_gradient_from` get a smaller gradient (see `scale_near_gradients`).
    """
    count = origins.shape[0]
    proposal_edges_s = stratified_edges(count, spacing.num_coarse, rng).to(origins)
    ends = spacing.ends(origins, directions)
    proposal_edges = s_to_t(origins, directions, proposal_edges_s, ends)
    # The rays get no gradient from here: the interlevel term would move cameras to where the proposal fits the field.
    proposal_density = proposal(origins.detach(), directions.detach(), proposal_edges)
    proposal_weights = render_weights(proposal_density, proposal_edges)

    jitter = None if rng is None else torch.rand(count, generator=rng).to(origins)
    asked = _not_empty(proposal_weights, rng) if spacing.bounded else None
    rows = slice(None) if asked is None else asked
    along, jitter = (origins[rows], directions[rows]), None if jitter is None else jitter[rows]
    edges_s = resample(proposal_edges_s[rows], proposal_weights[rows], spacing.num_fine, jitter)
    edges = s_to_t(*along, edges_s, ends[rows])
    density, features = field(unit_cube_points(*along, edges))
    if full_gradient_from > 0 and torch.is_grad_enabled():
        density, features = scale_near_gradients(density, features, edges, full_gradient_from)
    weights = render_weights(density, edges)
    features, opacity = accumulate(weights, features), weights.sum(-1)
    if asked is not None:
        features, opacity, weights = (_among_zeros(values, asked, count) for values in (features, opacity, weights))
        evenly = stratified_edges(count, spacing.num_fine, None).to(origins)
        nothing = torch.lerp(ends[:, :1], ends[:, 1:], evenly)
        edges_s, edges = evenly.index_copy(0, asked, edges_s), nothing.index_copy(0, asked, edges)
    return CompositedRays(
        features=features,
        opacity=opacity,
        edges=edges,
        edges_s=edges_s,
        weights=weights,
        proposal_edges_s=proposal_edges_s,
        proposal_weights=proposal_weights,
    )


def _not_empty(
    proposal_weights: Float[Tensor, "rays bins"], rng: torch.Generator | None
) -> Int[Tensor, " some"] | None:
    """Numbers of the rays that need the field, as the proposal says; None: all.

    In training some of the others are asked too, so that what the proposal missed is found.
    """
    opacity = proposal_weights.detach().sum(-1)
    if rng is not None:
        anyway = torch.rand(len(opacity), generator=rng).to(opacity) < ASKED_ANYWAY
        return ((opacity >= LIKELY_EMPTY) | anyway).nonzero()[:, 0]
    return None if torch.is_grad_enabled() else (opacity >= SURELY_EMPTY).nonzero()[:, 0]


def _among_zeros(
    values: Float[Tensor, "some *columns"], rows: Int[Tensor, " some"], count: int
) -> Float[Tensor, "count *columns"]:
    """`values` as these rows of `count`; the others are 0."""
    return values.new_zeros(count, *values.shape[1:]).index_copy(0, rows, values)


def scale_near_gradients(
    density: Float[Tensor, "rays samples"],
    features: Float[Tensor, "rays samples features"],
    edges: Float[Tensor, "rays edges"],
    full_from: float,
) -> tuple[Float[Tensor, "rays samples"], Float[Tensor, "rays samples features"]]:
    """The same values; their gradients are multiplied by the square of distance / `full_from` below that distance.

    The rays of a camera are densest in front of it, by the inverse square of the distance. What is there would learn
    fastest, and from one image alone, so cameras fill with fog (Philip & Deschaintre 2023, equation 5).
    """
    middles = 0.5 * (edges[:, 1:] + edges[:, :-1])
    return _ScaledGradients.apply(density, features, (middles / full_from).square().clamp(max=1))  # pyright: ignore[reportReturnType]


class _ScaledGradients(torch.autograd.Function):
    @staticmethod
    def forward(ctx, density, features, shares):  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.save_for_backward(shares)
        return density.view_as(density), features.view_as(features)

    @staticmethod
    def backward(ctx, grad_density, grad_features):  # pyright: ignore[reportIncompatibleMethodOverride]
        (shares,) = ctx.saved_tensors
        return grad_density * shares, grad_features * shares[..., None], None


def transmittance(weights: Float[Tensor, "rays bins"]) -> Float[Tensor, "rays bins"]:
    """The share of light that arrives at the beginning of every interval: exclusive, 1 for the first.

    1 minus the sum of the weights before it is the exclusive product of 1 - alpha.
    """
    before = torch.nn.functional.pad(weights[..., :-1].cumsum(-1), (1, 0))
    return (1 - before).clamp(0, 1)


def stratified_edges(rays: int, bins: int, rng: torch.Generator | None) -> Float[Tensor, "rays edges"]:
    """Even edges over [0, 1]; with a generator the inner ones of a ray move together by up to half a bin."""
    edges = torch.linspace(0, 1, bins + 1).expand(rays, -1)
    if rng is None:
        return edges.contiguous()
    shift = (torch.rand(rays, 1, generator=rng) - 0.5) / bins
    moved = edges + shift
    moved[:, 0] = 0
    moved[:, -1] = 1
    return moved


def expected_distance(
    weights: Float[Tensor, "rays bins"], edges: Float[Tensor, "rays edges"]
) -> Float[Tensor, " rays"]:
    """Mean distance of what a ray hits; the far end where it hits nothing."""
    middles = 0.5 * (edges[:, 1:] + edges[:, :-1])
    opacity = weights.sum(-1)
    mean = (weights * middles).sum(-1) / opacity.clamp(min=1e-6)
    return torch.where(opacity > 1e-6, mean, edges[:, -1])
