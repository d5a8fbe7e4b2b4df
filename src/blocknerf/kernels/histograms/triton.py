"""triton kernels of histograms along rays: a program takes one ray and compares all its edges with all others.

A table of all comparisons has a few thousand bits. It avoids a search, whose steps would wait for memory.
"""

# pyright: reportArgumentType=false
# (a kernel's language looks like Python and has other types)

import triton
import triton.language as tl
from torch import Tensor

from blocknerf.kernels.launch_triton import launch, padded, ray_tiles


def resample(edges: Tensor, weights: Tensor, jitter: Tensor, padding: float, out: Tensor) -> None:
    (rays, bins), wanted = weights.shape, out.shape[1]
    tensors = (edges.contiguous(), weights.contiguous(), jitter.contiguous(), out)
    launch(
        _resample,
        (rays,),
        *tensors,
        bins,
        wanted,
        padding / bins,
        BINS=padded(bins),
        WANTED=padded(wanted),
    )


def interlevel(
    proposal_edges: Tensor,
    proposal_weights: Tensor,
    edges: Tensor,
    weights: Tensor,
    epsilon: float,
    losses: Tensor,
    grad: Tensor,
) -> None:
    (rays, bins), fine = proposal_weights.shape, weights.shape[1]
    tensors = (proposal_edges.contiguous(), proposal_weights.contiguous(), edges.contiguous(), weights.contiguous())
    launch(
        _interlevel,
        (rays,),
        *tensors,
        losses,
        grad,
        bins,
        fine,
        epsilon,
        BINS=padded(bins),
        FINE=padded(fine),
    )


def distortion(edges: Tensor, weights: Tensor, losses: Tensor, grad: Tensor) -> None:
    grid, tile = ray_tiles(*weights.shape)
    launch(_distortion, grid, edges.contiguous(), weights.contiguous(), losses, grad, *weights.shape, **tile)


@triton.jit
def _resample(edges, weights, jitter, out, bins, wanted, floor, BINS: tl.constexpr, WANTED: tl.constexpr):
    ray = tl.program_id(0).to(tl.int64)
    edges += ray * (bins + 1)
    weights += ray * bins
    bin, number = tl.arange(0, BINS), tl.arange(0, WANTED)
    padded_weight = tl.load(weights + bin, mask=bin < bins, other=-floor) + floor
    total = tl.sum(padded_weight, axis=0)
    cumulative = tl.cumsum(padded_weight, axis=0) / total
    quantile = (number.to(tl.float32) + tl.load(jitter + ray)) / wanted
    passed = (cumulative[None, :] <= quantile[:, None]) & (bin < bins - 1)[None, :]
    index = tl.sum(passed.to(tl.int32), axis=1)
    low = tl.max(tl.where(passed, cumulative[None, :], 0.0), axis=1)
    share = (tl.load(weights + index) + floor) / total
    fraction = tl.minimum(tl.maximum((quantile - low) / share, 0.0), 1.0)
    left, right = tl.load(edges + index), tl.load(edges + index + 1)
    tl.store(out + ray * wanted + number, left + fraction * (right - left), mask=number < wanted)


@triton.jit
def _interlevel(
    proposal_edges,
    proposal_weights,
    edges,
    weights,
    losses,
    grad,
    bins,
    fine,
    epsilon,
    BINS: tl.constexpr,
    FINE: tl.constexpr,
):
    ray = tl.program_id(0).to(tl.int64)
    bin, interval = tl.arange(0, BINS), tl.arange(0, FINE)
    of_bin, of_interval = bin < bins, interval < fine
    coarse = proposal_edges + ray * (bins + 1) + bin
    begin, end = tl.load(coarse, mask=of_bin, other=0.0), tl.load(coarse + 1, mask=of_bin, other=0.0)
    exact = edges + ray * (fine + 1) + interval
    low, high = tl.load(exact, mask=of_interval, other=0.0), tl.load(exact + 1, mask=of_interval, other=0.0)
    bound = tl.load(proposal_weights + ray * bins + bin, mask=of_bin, other=0.0)
    weight = tl.load(weights + ray * fine + interval, mask=of_interval, other=0.0)
    touches = (end[None, :] > low[:, None]) & (begin[None, :] < high[:, None])
    missed = tl.maximum(weight - tl.sum(tl.where(touches, bound[None, :], 0.0), axis=1), 0.0)
    pull = -2.0 * missed / (weight + epsilon)
    tl.store(losses + ray, tl.sum(missed * missed / (weight + epsilon), axis=0))
    tl.store(grad + ray * bins + bin, tl.sum(tl.where(touches, pull[:, None], 0.0), axis=0), mask=of_bin)


@triton.jit
def _distortion(edges, weights, losses, grad, rays, bins, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """sum_ij w_i w_j |m_i - m_j| by running sums: for sorted middles the pairs before i give w_i (m_i W - M)."""
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    ray, bin = row[:, None], tl.arange(0, COLUMNS)[None, :]
    valid = (ray < rays) & (bin < bins)
    begin = edges + ray * (bins + 1) + bin
    low, high = tl.load(begin, mask=valid, other=0.0), tl.load(begin + 1, mask=valid, other=0.0)
    middle, width = 0.5 * (low + high), high - low
    weight = tl.load(weights + ray * bins + bin, mask=valid, other=0.0)
    moment = weight * middle
    through, moments_through = tl.cumsum(weight, axis=1), tl.cumsum(moment, axis=1)
    behind = tl.sum(weight, axis=1)[:, None] - through
    moments_behind = tl.sum(moment, axis=1)[:, None] - moments_through
    pull = middle * (through - weight) - (moments_through - moment) + moments_behind - middle * behind
    within = weight * width / 3.0
    tl.store(losses + row, tl.sum(weight * (pull + within), axis=1), mask=row < rays)
    tl.store(grad + ray * bins + bin, 2.0 * (pull + within), mask=valid)
