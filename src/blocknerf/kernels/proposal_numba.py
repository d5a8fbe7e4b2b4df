"""numba kernels of the proposal grid."""

import numpy as np
from numba import get_num_threads, njit, prange

from blocknerf.kernels.exp_numba import exp
from blocknerf.kernels.marching_numba import contracted_point

MAX_LOG_DENSITY = np.float32(12)


@njit(inline="always")
def _place(origins, directions, r, t, corners):
    """Cell and fraction of the point at distance t along ray r, after contraction."""
    x, y, z = contracted_point(origins, directions, r, t)
    zero, one, scale = np.float32(0), np.float32(1), np.float32(corners)
    u, v, w = min(max(x, zero), one) * scale, min(max(y, zero), one) * scale, min(max(z, zero), one) * scale
    i, j, k = min(int(u), corners - 1), min(int(v), corners - 1), min(int(w), corners - 1)
    return i, j, k, u - np.float32(i), v - np.float32(j), w - np.float32(k)


@njit(parallel=True, fastmath=True, cache=True, nogil=True)
def density(origins, directions, edges, grid, out):
    rays, samples = out.shape
    corners = grid.shape[0] - 1
    one = np.float32(1)
    for r in prange(rays):
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
            out[r, s] = exp(min(out[r, s], MAX_LOG_DENSITY))


def density_backward(origins, directions, edges, density, grad_density, side, values, seen):
    _density_backward(origins, directions, edges, density, grad_density, side, values, seen, get_num_threads())


@njit(parallel=True, fastmath=True, cache=True, nogil=True)
def _density_backward(origins, directions, edges, density, grad_density, side, values, seen, threads):
    """Thread t adds to every `threads`-th plane of the grid: a cell gets its samples in their order from one thread."""
    rays, samples = density.shape
    one = np.float32(1)
    ceiling = np.exp(MAX_LOG_DENSITY) * np.float32(0.99999)
    for thread in prange(threads):
        for r in range(rays):
            for s in range(samples):
                g = grad_density[r, s] * density[r, s]
                if g == 0 or density[r, s] >= ceiling:
                    continue
                t = np.float32(0.5) * (edges[r, s] + edges[r, s + 1])
                i, j, k, a, b, c = _place(origins, directions, r, t, side - 1)
                for plane in range(2):
                    if (k + plane) % threads != thread:
                        continue
                    share = g * (c if plane == 1 else one - c)
                    row = ((k + plane) * side + j) * side + i
                    seen[row] = seen[row + 1] = seen[row + side] = seen[row + side + 1] = 1
                    values[row] += share * (one - b) * (one - a)
                    values[row + 1] += share * (one - b) * a
                    values[row + side] += share * b * (one - a)
                    values[row + side + 1] += share * b * a
