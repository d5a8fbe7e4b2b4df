"""numba kernels of places along rays."""

import math

import numpy as np

from blocknerf.kernels.jit.compiled import compiled
from blocknerf.kernels.jit.fast_math import sine_and_cosine
from blocknerf.kernels.jit.parallel_for import F2, F3, F4, kernel, parallel_for, worker_body


@compiled(kept=False, inline="always")
def contracted_point(origins, directions, r, t):
    """The point at distance t along ray r, contracted, in the unit cube (geometry.contraction)."""
    half, one, two = np.float32(0.5), np.float32(1), np.float32(2)
    x = origins[r, 0] + t * directions[r, 0]
    y = origins[r, 1] + t * directions[r, 1]
    z = origins[r, 2] + t * directions[r, 2]
    norm = max(max(abs(x), abs(y)), max(abs(z), one))
    squeeze = (two - one / norm) / norm * np.float32(0.25)
    return x * squeeze + half, y * squeeze + half, z * squeeze + half


@compiled(kept=False, inline="always")
def _spacing(u, inner, impact_parameter):
    """geometry.spacing.spacing_from_distance at t_closest + u."""
    beyond = max(abs(u), inner)
    outside = (
        math.atan2(impact_parameter * (beyond - inner), impact_parameter * impact_parameter + beyond * inner)
        / impact_parameter
    )
    return math.copysign(min(abs(u), inner) + np.float32(outside), u)


@worker_body
def _s_to_t(start, stop, origins, directions, edges_s, ends, smallest_impact, out):
    rays, edges = edges_s.shape
    one, zero = np.float32(1), np.float32(0)
    for r in range(start, stop):
        x, y, z = origins[r, 0], origins[r, 1], origins[r, 2]
        a, b, c = directions[r, 0], directions[r, 1], directions[r, 2]
        t_closest = -(x * a + y * b + z * c)
        x, y, z = x + t_closest * a, y + t_closest * b, z + t_closest * c
        impact_parameter = max(np.float32(math.sqrt(x * x + y * y + z * z)), smallest_impact)
        inner = np.float32(math.sqrt(max(one - impact_parameter * impact_parameter, zero)))
        steep = inner / impact_parameter
        low = _spacing(ends[r, 0] - t_closest, inner, impact_parameter)
        span = _spacing(ends[r, 1] - t_closest, inner, impact_parameter) - low
        for e in range(edges):
            g = low + span * edges_s[r, e]
            size = abs(g)
            sine, cosine = sine_and_cosine(impact_parameter * max(size - inner, zero))
            outside = (inner * cosine + impact_parameter * sine) / (cosine - steep * sine)
            out[r, e] = t_closest + math.copysign(outside if size > inner else size, g)


@kernel(F2, F2, F2, F2, F4, F2)
def s_to_t(origins, directions, edges_s, ends, smallest_impact, out):
    """geometry.spacing.distance_from_spacing between the coordinates of the ends of a ray."""
    parallel_for(_s_to_t, len(edges_s), (origins, directions, edges_s, ends, smallest_impact, out))


@worker_body
def _unit_cube_points(start, stop, origins, directions, edges, out):
    _, rays, samples = out.shape
    for r in range(start, stop):
        for s in range(samples):
            t = np.float32(0.5) * (edges[r, s] + edges[r, s + 1])
            x, y, z = contracted_point(origins, directions, r, t)
            out[0, r, s] = x
            out[1, r, s] = y
            out[2, r, s] = z


@kernel(F2, F2, F2, F3)
def unit_cube_points(origins, directions, edges, out):
    parallel_for(_unit_cube_points, len(edges), (origins, directions, edges, out))


@worker_body
def _unit_cube_points_backward(start, stop, origins, directions, edges, grad, grad_origins, grad_directions):
    _, rays, samples = grad.shape
    half, one, two, quarter = np.float32(0.5), np.float32(1), np.float32(2), np.float32(0.25)
    for r in range(start, stop):
        ox = oy = oz = dx = dy = dz = np.float32(0)
        for s in range(samples):
            t = half * (edges[r, s] + edges[r, s + 1])
            x = origins[r, 0] + t * directions[r, 0]
            y = origins[r, 1] + t * directions[r, 1]
            z = origins[r, 2] + t * directions[r, 2]
            ax, ay, az = abs(x), abs(y), abs(z)
            norm = max(max(ax, ay), max(az, one))
            squeeze = (two - one / norm) / norm * quarter
            gx, gy, gz = squeeze * grad[0, r, s], squeeze * grad[1, r, s], squeeze * grad[2, r, s]
            if norm > one:
                slope = two * (one - norm) / (norm * norm * norm) * quarter
                along = slope * (x * grad[0, r, s] + y * grad[1, r, s] + z * grad[2, r, s])
                if norm == ax:
                    gx += along if x > 0 else -along
                elif norm == ay:
                    gy += along if y > 0 else -along
                else:
                    gz += along if z > 0 else -along
            ox += gx
            oy += gy
            oz += gz
            dx += t * gx
            dy += t * gy
            dz += t * gz
        grad_origins[r, 0], grad_origins[r, 1], grad_origins[r, 2] = ox, oy, oz
        grad_directions[r, 0], grad_directions[r, 1], grad_directions[r, 2] = dx, dy, dz


@kernel(F2, F2, F2, F3, F2, F2)
def unit_cube_points_backward(origins, directions, edges, grad, grad_origins, grad_directions):
    """Outside the cube, x becomes s(n) x / 4 with n = |x|_max and s(n) = 2/n - 1/n^2, so n's axis gets s'(n) too."""
    parallel_for(
        _unit_cube_points_backward, len(edges), (origins, directions, edges, grad, grad_origins, grad_directions)
    )
