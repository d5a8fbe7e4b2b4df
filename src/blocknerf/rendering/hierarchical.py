"""From ray to pixel with one field in two passes: evenly spaced, then where the first found matter (mip-NeRF)."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.kernels.compositing.ops import accumulate, render_weights
from blocknerf.kernels.histograms.ops import resample
from blocknerf.kernels.marching.ops import s_to_t
from blocknerf.rendering.volume import CompositedRays, RaySamplingConfig, stratified_edges

FieldOnIntervals = Callable[
    [Float[Tensor, "rays edges"]], tuple[Float[Tensor, "rays bins"], Float[Tensor, "rays bins 3"]]
]
EVERYWHERE = 0.01  # added to every weight, so that every place can be sampled (mip-NeRF, section 3.2)


def composite_coarse_and_fine(
    origins: Float[Tensor, "rays 3"],
    directions: Float[Tensor, "rays 3"],
    spacing: RaySamplingConfig,
    field: FieldOnIntervals,
    rng: torch.Generator | None = None,
    hierarchical: bool = True,
    white_background: bool = False,
) -> CompositedRays:
    """Rays and distances in block units; the field returns density and colour for the intervals between edges.

    The features of the result are the colour, on black or white. Both passes are differentiable in the field, but not
    the place of the second one's samples. Without `hierarchical` there is only the first pass. Without a generator
    every sample is in the middle of its interval.
    """

    ends = spacing.ends(origins, directions)

    def to_distance(edges_s: Float[Tensor, "rays edges"]) -> Float[Tensor, "rays edges"]:
        return s_to_t(origins, directions, edges_s, ends)

    background = 1.0 if white_background else 0.0
    coarse_edges_s = edges_s = stratified_edges(origins.shape[0], spacing.num_coarse, rng).to(origins)
    edges = to_distance(edges_s)
    coarse_weights, coarse_rgb = weights, rgb = _composite(edges, field, background)
    if hierarchical:
        jitter = None if rng is None else torch.rand(origins.shape[0], generator=rng).to(origins)
        edges_s = resample(coarse_edges_s, spread(coarse_weights.detach()), spacing.num_fine, jitter)
        edges = to_distance(edges_s)
        weights, rgb = _composite(edges, field, background)
    return CompositedRays(
        features=rgb,
        opacity=weights.sum(-1),
        edges=edges,
        edges_s=edges_s,
        weights=weights,
        proposal_edges_s=coarse_edges_s,
        proposal_weights=coarse_weights,
        coarse_rgb=coarse_rgb if hierarchical else None,
    )


def spread(weights: Float[Tensor, "rays bins"]) -> Float[Tensor, "rays bins"]:
    """Weights for sampling: an upper envelope, blurred, and a little everywhere (mip-NeRF, equation 18)."""
    padded = torch.cat([weights[:, :1], weights, weights[:, -1:]], -1)
    envelope = torch.maximum(padded[:, 1:], padded[:, :-1])
    return 0.5 * (envelope[:, 1:] + envelope[:, :-1]) + EVERYWHERE


def _composite(
    edges: Float[Tensor, "rays edges"], field: FieldOnIntervals, background: float
) -> tuple[Float[Tensor, "rays bins"], Float[Tensor, "rays 3"]]:
    density, rgb = field(edges)
    weights = render_weights(density, edges)
    return weights, accumulate(weights, rgb) + background * (1 - weights.sum(-1, keepdim=True))
