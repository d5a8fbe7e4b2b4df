"""triton kernels of compositing: a program computes a few whole rays.

Exclusive sums are computed from values shifted by one, never by subtraction, because a dense sample would make the sums
before it inexact. Features are [channels, rays, samples].
"""

import triton
import triton.language as tl
from torch import Tensor

from blocknerf.kernels.launch_triton import ELEMENTS, blocks, launch, padded, ray_tiles


def weights(density: Tensor, edges: Tensor, out: Tensor) -> None:
    rays, samples = density.shape
    grid, tile = ray_tiles(rays, samples)
    launch(_weights, grid, density.contiguous(), edges.contiguous(), out, rays, samples, **tile)


def weights_backward(density: Tensor, edges: Tensor, out: Tensor, grad_out: Tensor, grad_density: Tensor) -> None:
    rays, samples = density.shape
    grid, tile = ray_tiles(rays, samples)
    tensors = (density.contiguous(), edges.contiguous(), out, grad_out.contiguous(), grad_density)
    launch(_weights_backward, grid, *tensors, rays, samples, **tile)


def accumulate(weight: Tensor, values: Tensor, out: Tensor) -> None:
    channels, rays, samples = values.shape
    grid, tile = _channel_tiles(rays, samples, channels)
    sizes = (rays, samples, channels, *values.stride())
    launch(_accumulate, grid, weight.contiguous(), values, out, *sizes, **tile)


def accumulate_backward(
    weight: Tensor, values: Tensor, grad_out: Tensor, grad_weight: Tensor, grad_values: Tensor
) -> None:
    channels, rays, samples = values.shape
    grid, tile = _channel_tiles(rays, samples, channels)
    sizes = (rays, samples, channels, *values.stride(), *grad_values.stride())
    tensors = (weight.contiguous(), values, grad_out.contiguous(), grad_weight, grad_values)
    launch(_accumulate_backward, grid, *tensors, *sizes, **tile)


def _channel_tiles(rays: int, samples: int, channels: int) -> tuple[tuple[int], dict[str, int]]:
    depth, width = padded(samples), padded(channels)
    rows = max(1, 2 * ELEMENTS // (depth * width))
    return (blocks(rays, rows),), {"ROWS": rows, "COLUMNS": depth, "CHANNELS": width}


@triton.jit
def _depth(density, edges, ray, sample, valid, samples):
    """Optical depths of intervals, and their lengths."""
    begin = edges + ray * (samples + 1) + sample
    delta = tl.load(begin + 1, mask=valid, other=0.0) - tl.load(begin, mask=valid, other=0.0)
    return tl.load(density + ray * samples + sample, mask=valid, other=0.0) * delta, delta


@triton.jit
def _weights(density, edges, out, rays, samples, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    ray = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)[:, None]
    sample = tl.arange(0, COLUMNS)[None, :]
    valid = (ray < rays) & (sample < samples)
    depth, _ = _depth(density, edges, ray, sample, valid, samples)
    one_before, _ = _depth(density, edges, ray, sample - 1, valid & (sample > 0), samples)
    before = tl.cumsum(one_before, axis=1)
    tl.store(out + ray * samples + sample, tl.exp(-before) * (1.0 - tl.exp(-depth)), mask=valid)


@triton.jit
def _weights_backward(
    density, edges, out, grad_out, grad_density, rays, samples, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):
    """d weight_i / d depth_i = T_i exp(-depth_i); d weight_j / d depth_i = -weight_j for j > i."""
    ray = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)[:, None]
    sample = tl.arange(0, COLUMNS)[None, :]
    valid = (ray < rays) & (sample < samples)
    offset = ray * samples + sample
    depth, delta = _depth(density, edges, ray, sample, valid, samples)
    after = tl.exp(-tl.cumsum(depth, axis=1))
    has_next = valid & (sample + 1 < samples)
    next_weight = tl.load(out + offset + 1, mask=has_next, other=0.0)
    next_grad = tl.load(grad_out + offset + 1, mask=has_next, other=0.0)
    behind = tl.cumsum(next_weight * next_grad, axis=1, reverse=True)
    grad = tl.load(grad_out + offset, mask=valid, other=0.0)
    tl.store(grad_density + offset, delta * (grad * after - behind), mask=valid)


@triton.jit
def _accumulate(
    weight,
    values,
    out,
    rays,
    samples,
    channels,
    channel_stride,
    ray_stride,
    sample_stride,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    ray = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    sample, channel = tl.arange(0, COLUMNS), tl.arange(0, CHANNELS)
    known = (ray < rays)[:, None] & (sample < samples)[None, :]
    each = tl.load(weight + ray[:, None] * samples + sample[None, :], mask=known, other=0.0)
    place = ray[:, None, None] * ray_stride + sample[None, :, None] * sample_stride
    place += channel[None, None, :] * channel_stride
    value = tl.load(values + place, mask=known[:, :, None] & (channel < channels)[None, None, :], other=0.0)
    total = tl.sum(each[:, :, None] * value, axis=1)
    wanted = (ray < rays)[:, None] & (channel < channels)[None, :]
    tl.store(out + ray[:, None] * channels + channel[None, :], total, mask=wanted)


@triton.jit
def _accumulate_backward(
    weight,
    values,
    grad_out,
    grad_weight,
    grad_values,
    rays,
    samples,
    channels,
    channel_stride,
    ray_stride,
    sample_stride,
    grad_channel,
    grad_ray,
    grad_sample,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    ray = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    sample, channel = tl.arange(0, COLUMNS)[None, :, None], tl.arange(0, CHANNELS)[None, None, :]
    known = (ray < rays)[:, None, None] & (sample < samples)
    wanted = known & (channel < channels)
    of_ray = ray[:, None, None]
    value = tl.load(
        values + of_ray * ray_stride + sample * sample_stride + channel * channel_stride, mask=wanted, other=0.0
    )
    reached = (of_ray < rays) & (channel < channels)
    grad = tl.load(grad_out + of_ray * channels + channel, mask=reached, other=0.0)
    each = tl.load(weight + of_ray * samples + sample, mask=known, other=0.0)
    place = of_ray * grad_ray + sample * grad_sample + channel * grad_channel
    tl.store(grad_values + place, each * grad, mask=wanted)
    column = tl.arange(0, COLUMNS)[None, :]
    inside = (ray < rays)[:, None] & (column < samples)
    tl.store(grad_weight + ray[:, None] * samples + column, tl.sum(grad * value, axis=2), mask=inside)
