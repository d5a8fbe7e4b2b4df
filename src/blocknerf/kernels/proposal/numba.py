"""numba kernels of the proposal grid."""

import numpy as np

from blocknerf.kernels.jit.compiled import compiled
from blocknerf.kernels.jit.fast_math import exp, whole_between
from blocknerf.kernels.jit.parallel_for import F1, F2, F3, I8, kernel, num_threads, parallel_for, worker_body
from blocknerf.kernels.marching.numba import contracted_point
from blocknerf.kernels.proposal.limits import MAX_LOG_DENSITY

_MOST_LOG_DENSITY = np.float32(MAX_LOG_DENSITY)
_NO_SIGN = np.uint32(0x7FFFFFFF)


@compiled(kept=False, inline="always")
def _place(origins, directions, r, t, corners):
    """Cell and fraction of the point at distance t along ray r, after contraction."""
    x, y, z = contracted_point(origins, directions, r, t)
    zero, one, scale = np.float32(0), np.float32(1), np.float32(corners)
    u, v, w = min(max(x, zero), one) * scale, min(max(y, zero), one) * scale, min(max(z, zero), one) * scale
    last = corners - 1
    i, j, k = whole_between(u, 0, last), whole_between(v, 0, last), whole_between(w, 0, last)
    return i, j, k, u - np.float32(i), v - np.float32(j), w - np.float32(k)


@worker_body
def _density(start, stop, origins, directions, edges, grid, out):
    rays, samples = out.shape
    corners = grid.shape[0] - 1
    one = np.float32(1)
    for r in range(start, stop):
        for s in range(samples):
            t = np.float32(0.5) * (edges[r, s] + edges[r, s + 1])
            i, j, k, a, b, c = _place(origins, directions, r, t, corners)
            low = (one - b) * ((one - a) * grid[k, j, i] + a * grid[k, j, i + 1]) + b * (
                (one - a) * grid[k, j + 1, i] + a * grid[k, j + 1, i + 1]
            )
            high = (one - b) * ((one - a) * grid[k + 1, j, i] + a * grid[k + 1, j, i + 1]) + b * (
                (one - a) * grid[k + 1, j + 1, i] + a * grid[k + 1, j + 1, i + 1]
            )
            out[r, s] = (one - c) * low + c * high
        for s in range(samples):
            out[r, s] = exp(min(out[r, s], _MOST_LOG_DENSITY))


@kernel(F2, F2, F2, F3, F2)
def density(origins, directions, edges, grid, out):
    parallel_for(_density, len(out), (origins, directions, edges, grid, out))


@worker_body
def _places(start, stop, origins, directions, edges, density, grad_density, side, cells, odd, fractions, gradients):
    rays, samples = density.shape
    ceiling = np.exp(_MOST_LOG_DENSITY) * np.float32(0.99999)
    for r in range(start, stop):
        for s in range(samples):
            t = np.float32(0.5) * (edges[r, s] + edges[r, s + 1])
            i, j, k, a, b, c = _place(origins, directions, r, t, side - 1)
            cells[r, s] = (k * side + j) * side + i
            odd[r, s] = k & 1
            fractions[0, r, s], fractions[1, r, s], fractions[2, r, s] = a, b, c
            g = grad_density[r, s] * density[r, s]
            gradients[r, s] = g if density[r, s] < ceiling else np.float32(0)


@worker_body
def _density_backward(start, stop, groups, side, cells, odd, fractions, gradients, bits, grad_grid):
    rays, samples = cells.shape
    one, area = np.float32(1), side * side
    for group in range(np.int64(start), np.int64(stop)):
        for r in range(rays):
            for s in range(samples):
                if bits[r, s] & _NO_SIGN == 0:  # of 0: as a number, what is not finite might pass for it
                    continue
                g = gradients[r, s]
                a, b, c = fractions[0, r, s], fractions[1, r, s], fractions[2, r, s]
                row = np.int64(cells[r, s])
                first = np.int64(odd[r, s]) ^ group
                for up in range(first if groups == 2 else 0, first + 1 if groups == 2 else 2):
                    share = g * (c if up else one - c)
                    plane = row + up * area
                    grad_grid[plane] += share * (one - b) * (one - a)
                    grad_grid[plane + 1] += share * (one - b) * a
                    grad_grid[plane + side] += share * b * (one - a)
                    grad_grid[plane + side + 1] += share * b * a


@kernel(F2, F2, F2, F2, F2, I8, F1)
def density_backward(origins, directions, edges, density, grad_density, side, grad_grid):
    """One thread adds to the even planes of the grid, another to the odd ones, so a cell gets its samples in order.

    Every sample adds to one plane of each kind, so both threads need all samples. A single thread uses the same
    instructions for both, because code compiled separately would round differently.
    """
    shape = density.shape
    cells, odd = np.empty(shape, np.int32), np.empty(shape, np.uint8)
    fractions, gradients = np.empty((3, *shape), np.float32), np.empty(shape, np.float32)
    places = origins, directions, edges, density, grad_density, side, cells, odd, fractions, gradients
    parallel_for(_places, len(density), places)
    groups = 1 if num_threads() == 1 else 2
    bits = gradients.view(np.uint32)
    parallel_for(_density_backward, groups, (groups, side, cells, odd, fractions, gradients, bits, grad_grid))
