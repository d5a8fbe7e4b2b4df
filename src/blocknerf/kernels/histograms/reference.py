"""Histograms along rays: drawing intervals from one, bounding one by another, and the spread of one.

Edges ascend along the last axis; interval i is between edges i and i + 1. All in the spacing coordinate s in [0, 1].
"""

import torch
from jaxtyping import Float
from torch import Tensor

PADDING = 0.01  # uniform share added to a histogram, so that every place is sampled sometimes (mip-NeRF, section 3.2)
EPSILON = 1e-7


def resample(
    edges: Float[Tensor, "rays edges"],
    weights: Float[Tensor, "rays bins"],
    count: int,
    jitter: Float[Tensor, " rays"],
) -> Float[Tensor, "rays out"]:
    bins = weights.shape[-1]
    padded = weights + PADDING / bins
    share = padded / padded.sum(-1, keepdim=True)
    cumulative = torch.nn.functional.pad(share.cumsum(-1), (1, 0))
    quantiles = (torch.arange(count + 1).to(edges) + jitter[:, None]) / (count + 1)
    upper = torch.searchsorted(cumulative, quantiles, right=True).clamp(1, bins)
    low, high = cumulative.gather(-1, upper - 1), cumulative.gather(-1, upper)
    fraction = ((quantiles - low) / (high - low)).clamp(0, 1)
    left, right = edges.gather(-1, upper - 1), edges.gather(-1, upper)
    return left + fraction * (right - left)


def interlevel_loss(
    proposal_edges: Float[Tensor, "rays edges"],
    proposal_weights: Float[Tensor, "rays bins"],
    edges: Float[Tensor, "rays fine_edges"],
    weights: Float[Tensor, "rays fine_bins"],
) -> Float[Tensor, ""]:
    cumulative = torch.nn.functional.pad(proposal_weights.cumsum(-1), (1, 0))
    last = proposal_weights.shape[-1]
    first_bin = (torch.searchsorted(proposal_edges.contiguous(), edges[:, :-1].contiguous(), right=True) - 1).clamp(
        0, last
    )
    end_bin = torch.searchsorted(proposal_edges.contiguous(), edges[:, 1:].contiguous()).clamp(0, last)
    bound = cumulative.gather(-1, torch.maximum(end_bin, first_bin)) - cumulative.gather(-1, first_bin)
    return ((weights - bound).clamp(min=0).square() / (weights + EPSILON)).sum(-1).mean()


def distortion_loss(edges: Float[Tensor, "rays edges"], weights: Float[Tensor, "rays bins"]) -> Float[Tensor, ""]:
    middles = 0.5 * (edges[:, 1:] + edges[:, :-1])
    apart = (middles[:, :, None] - middles[:, None, :]).abs()
    between = (weights[:, :, None] * weights[:, None, :] * apart).sum((-1, -2))
    within = (weights.square() * edges.diff(dim=-1)).sum(-1) / 3
    return (between + within).mean()
