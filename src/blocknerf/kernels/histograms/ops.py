"""Histograms along rays: resampling, and the two losses, differentiable."""

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.kernels.histograms import reference
from blocknerf.kernels.registry import backend_for, kernels_for


def resample(
    edges: Float[Tensor, "rays edges"],
    weights: Float[Tensor, "rays bins"],
    count: int,
    jitter: Float[Tensor, " rays"] | None = None,
) -> Float[Tensor, "rays out"]:
    """Edges of `count` intervals, equally probable under the histogram (mip-NeRF 360, section 3.1). Not differentiable.

    `jitter` in [0, 1) shifts a ray's quantiles by that share of their spacing. Without it, they are in the middle.
    """
    with torch.no_grad():
        jitter = torch.full_like(edges[:, 0], 0.5) if jitter is None else jitter
        if backend_for("histograms.resample", edges) == "torch":
            return reference.resample(edges, weights, count, jitter)
        out = edges.new_empty(edges.shape[0], count + 1)
        kernels_for("histograms", edges).resample(edges, weights, jitter, reference.PADDING, out)
        return out


def interlevel_loss(
    proposal_edges: Float[Tensor, "rays edges"],
    proposal_weights: Float[Tensor, "rays bins"],
    edges: Float[Tensor, "rays fine_edges"],
    weights: Float[Tensor, "rays fine_bins"],
) -> Float[Tensor, ""]:
    """The weight that the proposal misses (mip-NeRF 360, equation 13), mean over rays.

    Each fine weight must be at most the sum of the proposal's weights in the bins that it touches. Differentiable only
    in `proposal_weights`, because the field is the teacher.
    """
    weights = weights.detach()
    if backend_for("histograms.interlevel", weights) == "torch":
        return reference.interlevel_loss(proposal_edges, proposal_weights, edges, weights)
    return _Interlevel.apply(proposal_edges, proposal_weights, edges, weights)  # pyright: ignore[reportReturnType]


def distortion_loss(edges: Float[Tensor, "rays edges"], weights: Float[Tensor, "rays bins"]) -> Float[Tensor, ""]:
    """The spread of the weights along the ray (mip-NeRF 360, equation 15), mean over rays."""
    if backend_for("histograms.distortion", weights) == "torch":
        return reference.distortion_loss(edges, weights)
    return _Distortion.apply(edges, weights)  # pyright: ignore[reportReturnType]


class _Interlevel(torch.autograd.Function):
    @staticmethod
    def forward(ctx, proposal_edges, proposal_weights, edges, weights):  # pyright: ignore[reportIncompatibleMethodOverride]
        losses = weights.new_empty(weights.shape[0])
        grad = proposal_weights.new_empty(proposal_weights.shape)
        kernels = kernels_for("histograms", weights)
        kernels.interlevel(proposal_edges, proposal_weights, edges, weights, reference.EPSILON, losses, grad)
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
        kernels_for("histograms", weights).distortion(edges, weights, losses, grad)
        ctx.save_for_backward(grad)
        return losses.mean()

    @staticmethod
    def backward(ctx, grad_loss):  # pyright: ignore[reportIncompatibleMethodOverride]
        (grad,) = ctx.saved_tensors
        return None, grad * (grad_loss / grad.shape[0])
