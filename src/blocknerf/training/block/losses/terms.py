"""Terms of the loss, as pure functions of float32 or float64 tensors. They are means over what is given."""

from collections.abc import Iterable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from blocknerf.kernels.histograms.reference import EPSILON
from blocknerf.rendering.quality import masked_similarity

LOG_OFFSET = 1e-6
SCALE_SHARE = 0.5
"""Share of a common factor of all depths that costs nothing (Eigen et al. 2014, equation 4, with lambda 0.5)."""
OUTLIER_SHARE = 0.01
"""Of sparse points, as the term for them assumes."""
GRADIENT_SHARE, DISTANCE_SHARE = 0.1, 0.1
"""Weight of the depth gradient relative to depth, and of distance relative to colour when two blocks are compared."""


def squared_error(rgb: Float[Tensor, "rays 3"], truth: Float[Tensor, "rays 3"]) -> Float[Tensor, ""]:
    """The mean squared error, from which PSNR follows."""
    return (rgb - truth).square().mean()


def absolute_error(rgb: Float[Tensor, "rays 3"], truth: Float[Tensor, "rays 3"]) -> Float[Tensor, ""]:
    return (rgb - truth).abs().mean()


def dssim(
    rgb: Float[Tensor, "patches h w 3"], truth: Float[Tensor, "patches h w 3"], valid: Bool[Tensor, "patches h w"]
) -> Float[Tensor, ""]:
    """1 - SSIM over valid pixels, from the valid pixels in their windows: 0 for equal pictures, at most 2.

    Invalid pixels must be finite; their values have no effect. The result is 0 if no pixel is valid.
    """
    if not bool(valid.any()):
        return rgb.new_zeros(())
    return 1 - masked_similarity(rgb, truth, valid)[valid].mean()


def scale_invariant_log_loss(depth: Float[Tensor, " pixels"], truth: Float[Tensor, " pixels"]) -> Float[Tensor, ""]:
    """mean(d^2) - mean(d)^2 / 2 of d = log depth - log truth (Eigen et al. 2014); 0 without pixels.

    If all depths are wrong by one factor f, the loss is log(f)^2 / 2.
    """
    if len(depth) == 0:
        return depth.new_zeros(())
    difference = torch.log(depth + LOG_OFFSET) - torch.log(truth + LOG_OFFSET)
    return difference.square().mean() - SCALE_SHARE * difference.mean().square()


def depth_gradient_loss(
    depth: Float[Tensor, "patches h w"], truth: Float[Tensor, "patches h w"], known: Bool[Tensor, "patches h w"]
) -> Float[Tensor, ""]:
    """Mean difference in the size of steps between neighbours, along rows plus along columns.

    Only pairs whose depths are both known count. A direction without such pairs is 0.
    """
    total = depth.new_zeros(())
    for axis in (1, 2):
        both = known.narrow(axis, 0, known.shape[axis] - 1) & known.narrow(axis, 1, known.shape[axis] - 1)
        if bool(both.any()):
            total = total + (depth.diff(dim=axis).abs() - truth.diff(dim=axis).abs())[both].abs().mean()
    return total


def consistency_loss(
    rgb: Float[Tensor, "rays 3"],
    distance: Float[Tensor, " rays"],
    neighbour_rgb: Float[Tensor, "rays 3"],
    neighbour_distance: Float[Tensor, " rays"],
    weights: Float[Tensor, " rays"],
) -> Float[Tensor, ""]:
    """Difference of two blocks on rays that both render: colour squared, and a tenth of distance, by ray `weights`.

    Differentiable in the first two arguments only, because the neighbour is the teacher.
    """
    colours = (rgb - neighbour_rgb.detach()).square().mean(-1)
    distances = (distance - neighbour_distance.detach()).abs()
    return (weights * (colours + DISTANCE_SHARE * distances)).mean()


def passing_loss(
    proposal_weights: Float[Tensor, "rays bins"], weights: Float[Tensor, "rays fine_bins"]
) -> Float[Tensor, ""]:
    """The light that the proposal stops and the field lets through a bounded block, mean over rays.

    It is the interlevel term (mip-NeRF 360, equation 13) of one more interval, that behind the last sample, so that the
    proposal also learns where nothing is. Differentiable only in `proposal_weights`.
    """
    passes = 1 - weights.detach().sum(-1)
    missed = (passes - 1 + proposal_weights.sum(-1)).clamp(min=0)
    return (missed.square() / (passes + EPSILON)).mean()


def window_loss(
    edges: Float[Tensor, "rays edges"],
    weights: Float[Tensor, "rays bins"],
    low: Float[Tensor, " rays"],
    high: Float[Tensor, " rays"],
) -> Float[Tensor, ""]:
    """Mean of -log((1 - o) m + o) of the weight m that each ray's histogram has between `low` and `high`.

    The likelihood that the ray ends there, where a share o of such windows is wrong (OUTLIER_SHARE): a ray that clearly
    ends elsewhere has nearly no gradient. Weight is even within a bin. Differentiable in `weights`.
    """
    begin, end = edges[:, :-1], edges[:, 1:]
    covered = (torch.minimum(end, high[:, None]) - torch.maximum(begin, low[:, None])).clamp(min=0)
    inside = (weights * covered / (end - begin).clamp(min=1e-9)).sum(-1)
    return -torch.log((1 - OUTLIER_SHARE) * inside + OUTLIER_SHARE).mean()


def squared_weights(matrices: Iterable[Tensor]) -> Float[Tensor, ""]:
    """Sum of the squares of all entries of matrices; vectors, such as biases, are skipped."""
    return sum((matrix.square().sum().cpu() for matrix in matrices if matrix.dim() > 1), torch.zeros(()))


def laplacian_smoothness(stencils: Float[Tensor, "places 7"]) -> Float[Tensor, ""]:
    """Mean squared Laplacian. Values are at a place, then one step along -x, +x, -y, +y, -z, +z. 0 if linear."""
    return (stencils[:, 1:].sum(-1) - 6 * stencils[:, 0]).square().mean()
