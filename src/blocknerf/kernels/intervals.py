"""Histograms along rays: drawing intervals from one, bounding one by another, how spread one is.

Edges ascend along the last axis; interval i lies between edges i and i + 1. All in the spacing coordinate s in [0, 1].
"""

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.kernels.registry import backend_for, kernels_for

PADDING = 0.01  # share of uniform added to a histogram, so that no place is never looked at (mip-NeRF, section 3.2)
EPSILON = 1e-7


def resample(
    edges: Float[Tensor, "rays edges"],
    weights: Float[Tensor, "rays bins"],
    count: int,
    jitter: Float[Tensor, " rays"] | None = None,
) -> Float[Tensor, "rays out"]:
    """Edges of `count` intervals, equally probable under the histogram (mip-NeRF 360, section 3.1). Not differentiable.

    `jitter` in [0, 1) shifts a ray's quantiles by that share of their spacing; without it they lie in the middle.
    """
    with torch.no_grad():
        jitter = torch.full_like(edges[:, 0], 0.5) if jitter is None else jitter
        if backend_for(edges) == "torch":
            return resample_torch(edges, weights, count, jitter)
        out = edges.new_empty(edges.shape[0], count + 1)
        kernels_for(__name__, edges).resample(edges, weights, jitter, PADDING, out)
        return out


def resample_torch(
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
    """How much weight the proposal misses (mip-NeRF 360, equation 13), mean over rays.

    Each fine weight must be no more than the sum of the proposal's weights in the bins it touches. Differentiable in
    `proposal_weights` only: the field is the teacher.
    """
    weights = weights.detach()
    if backend_for(weights) == "torch":
        return interlevel_loss_torch(proposal_edges, proposal_weights, edges, weights)
    return _Interlevel.apply(proposal_edges, proposal_weights, edges, weights)  # pyright: ignore[reportReturnType]


def interlevel_loss_torch(
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
    """How spread the weights are along the ray (mip-NeRF 360, equation 15), mean over rays."""
    if backend_for(weights) == "torch":
        return distortion_loss_torch(edges, weights)
    return _Distortion.apply(edges, weights)  # pyright: ignore[reportReturnType]


def distortion_loss_torch(edges: Float[Tensor, "rays edges"], weights: Float[Tensor, "rays bins"]) -> Float[Tensor, ""]:
    middles = 0.5 * (edges[:, 1:] + edges[:, :-1])
    apart = (middles[:, :, None] - middles[:, None, :]).abs()
    between = (weights[:, :, None] * weights[:, None, :] * apart).sum((-1, -2))
    within = (weights.square() * edges.diff(dim=-1)).sum(-1) / 3
    return (between + within).mean()


class _Interlevel(torch.autograd.Function):
    @staticmethod
    def forward(ctx, proposal_edges, proposal_weights, edges, weights):  # pyright: ignore[reportIncompatibleMethodOverride]
        losses = weights.new_empty(weights.shape[0])
        grad = proposal_weights.new_empty(proposal_weights.shape)
        kernels = kernels_for(__name__, weights)
        kernels.interlevel(proposal_edges, proposal_weights, edges, weights, EPSILON, losses, grad)
        ctx.save_for_backward(grad)
        return losses.mean()

    @staticmethod
    def backward(ctx, grad_loss):  # pyright: ignore[reportIncompatibleMethodOverride]
        (grad,) = ctx.saved_tensors
        return None, grad * (grad_loss / grad.shape[0]), None, None


class _Distortion(torch.autograd.Function):
    @staticmethod
    def forward(ctx, edges, weights):  # pyright: ignore[reportIncompatibleMethodOverride]
        losses, grad = weights.new_empty(weights.shape[0]), weights.new_empty(weights.shape)
        kernels_for(__name__, weights).distortion(edges, weights, losses, grad)
        ctx.save_for_backward(grad)
        return losses.mean()

    @staticmethod
    def backward(ctx, grad_loss):  # pyright: ignore[reportIncompatibleMethodOverride]
        (grad,) = ctx.saved_tensors
        return None, grad * (grad_loss / grad.shape[0])
