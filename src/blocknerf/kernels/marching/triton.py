"""triton kernels of places along rays: a program computes a few whole rays."""

import triton
import triton.language as tl
from torch import Tensor

from blocknerf.kernels.launch_triton import launch, ray_tiles


def s_to_t(
    origins: Tensor, directions: Tensor, edges_s: Tensor, ends: Tensor, smallest_impact: float, out: Tensor
) -> None:
    grid, tile = ray_tiles(*edges_s.shape)
    tensors = (origins.contiguous(), directions.contiguous(), edges_s.contiguous(), ends.contiguous(), out)
    launch(_s_to_t, grid, *tensors, *edges_s.shape, float(smallest_impact), **tile)


def unit_cube_points(origins: Tensor, directions: Tensor, edges: Tensor, out: Tensor) -> None:
    _, rays, samples = out.shape
    grid, tile = ray_tiles(rays, samples)
    tensors = (origins.contiguous(), directions.contiguous(), edges.contiguous(), out)
    launch(_unit_cube_points, grid, *tensors, rays, samples, **tile)


def unit_cube_points_backward(
    origins: Tensor, directions: Tensor, edges: Tensor, grad: Tensor, grad_origins: Tensor, grad_directions: Tensor
) -> None:
    _, rays, samples = grad.shape
    grid, tile = ray_tiles(rays, samples)
    tensors = (origins.contiguous(), directions.contiguous(), edges.contiguous(), grad.contiguous())
    launch(_unit_cube_points_backward, grid, *tensors, grad_origins, grad_directions, rays, samples, **tile)


@triton.jit
def vector(vectors, ray, valid):
    """Coordinates of a row of [rays, 3]."""
    x = tl.load(vectors + 3 * ray, mask=valid, other=0.0)
    y = tl.load(vectors + 3 * ray + 1, mask=valid, other=0.0)
    z = tl.load(vectors + 3 * ray + 2, mask=valid, other=0.0)
    return x, y, z


@triton.jit
def middle_points(origins, directions, edges, ray, sample, valid, samples):
    """Distances of the middles of intervals, the points there in block units, and their largest coordinate or 1."""
    begin = edges + ray * (samples + 1) + sample
    t = 0.5 * (tl.load(begin, mask=valid, other=0.0) + tl.load(begin + 1, mask=valid, other=0.0))
    ox, oy, oz = vector(origins, ray, valid)
    dx, dy, dz = vector(directions, ray, valid)
    x, y, z = ox + t * dx, oy + t * dy, oz + t * dz
    norm = tl.maximum(tl.maximum(tl.abs(x), tl.abs(y)), tl.maximum(tl.abs(z), 1.0))
    return t, x, y, z, norm


@triton.jit
def squeeze(norm):
    """The factor that brings a point of this norm into (-0.5, 0.5)^3 (geometry.contraction)."""
    return (2.0 - 1.0 / norm) / norm * 0.25


@triton.jit
def _angle(y, x):
    """atan2 for y >= 0 and x > 0: halved twice, so that a short series is exact to float32."""
    half = y / (x + tl.sqrt(x * x + y * y))
    quarter = half / (1.0 + tl.sqrt(1.0 + half * half))
    t = quarter * quarter
    series = -0.13851478 + t * 0.07984963
    series = 0.99999998 + t * (-0.33332797 + t * (0.19974405 + t * series))
    return 4.0 * quarter * series


@triton.jit
def _signed(size, sign):
    return tl.where(sign < 0, -size, size)


@triton.jit
def _spacing(u, inner, impact_parameter):
    """geometry.spacing.spacing_from_distance at t_closest + u."""
    beyond = tl.maximum(tl.abs(u), inner)
    outside = (
        _angle(impact_parameter * (beyond - inner), impact_parameter * impact_parameter + beyond * inner)
        / impact_parameter
    )
    return _signed(tl.minimum(tl.abs(u), inner) + outside, u)


@triton.jit
def _s_to_t(
    origins,
    directions,
    edges_s,
    ends,
    out,
    rays,
    edges,
    smallest_impact,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """geometry.spacing.distance_from_spacing between the coordinates of the ends of a ray."""
    ray = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)[:, None]
    edge = tl.arange(0, COLUMNS)[None, :]
    valid = (ray < rays) & (edge < edges)
    x, y, z = vector(origins, ray, ray < rays)
    a, b, c = vector(directions, ray, ray < rays)
    t_closest = -(x * a + y * b + z * c)
    x, y, z = x + t_closest * a, y + t_closest * b, z + t_closest * c
    impact_parameter = tl.maximum(tl.sqrt(x * x + y * y + z * z), smallest_impact)
    inner = tl.sqrt(tl.maximum(1.0 - impact_parameter * impact_parameter, 0.0))
    begin = tl.load(ends + 2 * ray, mask=ray < rays, other=0.0)
    end = tl.load(ends + 2 * ray + 1, mask=ray < rays, other=0.0)
    low = _spacing(begin - t_closest, inner, impact_parameter)
    span = _spacing(end - t_closest, inner, impact_parameter) - low
    g = low + span * tl.load(edges_s + ray * edges + edge, mask=valid, other=0.0)
    angle = impact_parameter * tl.maximum(tl.abs(g) - inner, 0.0)
    sine, cosine = tl.sin(angle), tl.cos(angle)
    beyond = (inner * cosine + impact_parameter * sine) / (cosine - inner * sine / impact_parameter)
    size = tl.where(tl.abs(g) <= inner, tl.abs(g), beyond)
    tl.store(out + ray * edges + edge, t_closest + _signed(size, g), mask=valid)


@triton.jit
def _unit_cube_points(origins, directions, edges, out, rays, samples, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    ray = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)[:, None]
    sample = tl.arange(0, COLUMNS)[None, :]
    valid = (ray < rays) & (sample < samples)
    _, x, y, z, norm = middle_points(origins, directions, edges, ray, sample, valid, samples)
    scale = squeeze(norm)
    place, count = out + ray * samples + sample, rays * samples
    tl.store(place, x * scale + 0.5, mask=valid)
    tl.store(place + count, y * scale + 0.5, mask=valid)
    tl.store(place + 2 * count, z * scale + 0.5, mask=valid)


@triton.jit
def _unit_cube_points_backward(
    origins,
    directions,
    edges,
    grad,
    grad_origins,
    grad_directions,
    rays,
    samples,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Outside the cube, x becomes s(n) x / 4 with n = |x|_max and s(n) = 2/n - 1/n^2, so n's axis gets s'(n) too."""
    ray = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)[:, None]
    sample = tl.arange(0, COLUMNS)[None, :]
    valid = (ray < rays) & (sample < samples)
    t, x, y, z, norm = middle_points(origins, directions, edges, ray, sample, valid, samples)
    place, count = grad + ray * samples + sample, rays * samples
    ex = tl.load(place, mask=valid, other=0.0)
    ey = tl.load(place + count, mask=valid, other=0.0)
    ez = tl.load(place + 2 * count, mask=valid, other=0.0)
    slope = 2.0 * (1.0 - norm) / (norm * norm * norm) * 0.25
    along = slope * (x * ex + y * ey + z * ez)  # 0 inside, where the norm is 1
    is_x = norm == tl.abs(x)
    is_y = (norm == tl.abs(y)) & (is_x == 0)
    is_z = (is_x == 0) & (is_y == 0)
    scale = squeeze(norm)
    gx = scale * ex + tl.where(is_x, _signed(along, x), 0.0)
    gy = scale * ey + tl.where(is_y, _signed(along, y), 0.0)
    gz = scale * ez + tl.where(is_z, _signed(along, z), 0.0)
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    _store_vector(grad_origins, row, rays, tl.sum(gx, axis=1), tl.sum(gy, axis=1), tl.sum(gz, axis=1))
    _store_vector(grad_directions, row, rays, tl.sum(t * gx, axis=1), tl.sum(t * gy, axis=1), tl.sum(t * gz, axis=1))


@triton.jit
def _store_vector(vectors, row, rows, x, y, z):
    valid = row < rows
    tl.store(vectors + 3 * row, x, mask=valid)
    tl.store(vectors + 3 * row + 1, y, mask=valid)
    tl.store(vectors + 3 * row + 2, z, mask=valid)
