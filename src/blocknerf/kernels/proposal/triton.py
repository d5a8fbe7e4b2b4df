"""triton kernels of the proposal grid. Samples add to shared cells atomically, each time in another order."""

# pyright: reportGeneralTypeIssues=false
# (a kernel's language looks like Python and has other types)

import triton
import triton.language as tl
from torch import Tensor

from blocknerf.kernels.launch_triton import launch, ray_tiles
from blocknerf.kernels.marching.triton import middle_points, squeeze


def density(origins: Tensor, directions: Tensor, edges: Tensor, grid: Tensor, out: Tensor) -> None:
    rays, samples = out.shape
    programs, tile = ray_tiles(rays, samples)
    tensors = (origins.contiguous(), directions.contiguous(), edges.contiguous(), grid.contiguous(), out)
    launch(_density, programs, *tensors, rays, samples, grid.shape[0], **tile)


def density_backward(
    origins: Tensor,
    directions: Tensor,
    edges: Tensor,
    density: Tensor,
    grad_density: Tensor,
    side: int,
    grad_grid: Tensor,
) -> None:
    rays, samples = density.shape
    programs, tile = ray_tiles(rays, samples)
    tensors = (origins.contiguous(), directions.contiguous(), edges.contiguous(), density, grad_density.contiguous())
    launch(_density_backward, programs, *tensors, grad_grid, rays, samples, side, **tile)


@triton.jit
def _cell(value, scale, side):
    """The cell of a contracted coordinate, and the position in it."""
    scaled = tl.minimum(tl.maximum(value * scale + 0.5, 0.0), 1.0) * (side - 1)
    cell = tl.maximum(tl.minimum(scaled.to(tl.int32), side - 2), 0)  # of NaN, too
    return cell, scaled - cell.to(tl.float32)


@triton.jit
def _corner(i, j, k, a, b, c, side, corner: tl.constexpr):
    """Row and share of a corner; bit 0 steps along x, bit 1 along y, bit 2 along z."""
    row = ((k + (corner >> 2 & 1)) * side + j + (corner >> 1 & 1)) * side + i + (corner & 1)
    share_x = a if corner & 1 else 1.0 - a
    share_y = b if corner & 2 else 1.0 - b
    share_z = c if corner & 4 else 1.0 - c
    return row, share_x * share_y * share_z


@triton.jit
def _density(origins, directions, edges, grid, out, rays, samples, side, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    ray = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)[:, None]
    sample = tl.arange(0, COLUMNS)[None, :]
    valid = (ray < rays) & (sample < samples)
    _, x, y, z, norm = middle_points(origins, directions, edges, ray, sample, valid, samples)
    scale = squeeze(norm)
    i, a = _cell(x, scale, side)
    j, b = _cell(y, scale, side)
    k, c = _cell(z, scale, side)
    value = tl.zeros((ROWS, COLUMNS), tl.float32)
    for corner in tl.static_range(8):
        row, share = _corner(i, j, k, a, b, c, side, corner)
        value += share * tl.load(grid + row, mask=valid, other=0.0)
    tl.store(out + ray * samples + sample, tl.exp(tl.minimum(value, 12.0)), mask=valid)


@triton.jit
def _density_backward(
    origins,
    directions,
    edges,
    density,
    grad_density,
    grad_grid,
    rays,
    samples,
    side,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    ray = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)[:, None]
    sample = tl.arange(0, COLUMNS)[None, :]
    valid = (ray < rays) & (sample < samples)
    offset = ray * samples + sample
    known = tl.load(density + offset, mask=valid, other=0.0)
    grad = known * tl.load(grad_density + offset, mask=valid, other=0.0)
    touches = valid & (grad != 0) & (known < 162753.16)  # below the ceiling exp(12), by a part in 100,000
    _, x, y, z, norm = middle_points(origins, directions, edges, ray, sample, valid, samples)
    scale = squeeze(norm)
    i, a = _cell(x, scale, side)
    j, b = _cell(y, scale, side)
    k, c = _cell(z, scale, side)
    for corner in tl.static_range(8):
        row, share = _corner(i, j, k, a, b, c, side, corner)
        tl.atomic_add(grad_grid + row, share * grad, mask=touches, sem="relaxed")
