"""numba kernels of the proposal grid."""

import numpy as np
from numba import njit

from blocknerf.kernels.elementary_numba import exp, whole_between
from blocknerf.kernels.marching_numba import contracted_point
from blocknerf.kernels.threads_numba import F1, F2, F3, I8, kernel, num_threads, part, share_out

MAX_LOG_DENSITY = np.float32(12)


@njit(inline="always")
def _place(origins, directions, r, t, corners):
    """Cell and fraction of the point at distance t along ray r, after contraction."""
    x, y, z = contracted_point(origins, directions, r, t)
    zero, one, scale = np.float32(0), np.float32(1), np.float32(corners)
    u, v, w = min(max(x, zero), one) * scale, min(max(y, zero), one) * scale, min(max(z, zero), one) * scale
    last = corners - 1
    i, j, k = whole_between(u, 0, last), whole_between(v, 0, last), whole_between(w, 0, last)
    return i, j, k, u - np.float32(i), v - np.float32(j), w - np.float32(k)


@part
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
            out[r, s] = exp(min(out[r, s], MAX_LOG_DENSITY))


@kernel(F2, F2, F2, F3, F2)
def density(origins, directions, edges, grid, out):
    share_out(_density, len(out), (origins, directions, edges, grid, out))


@part
def _density_backward(start, stop, threads, origins, directions, edges, density, grad_density, side, grad_grid):
    rays, samples = density.shape
    one = np.float32(1)
    ceiling = np.exp(MAX_LOG_DENSITY) * np.float32(0.99999)
    for thread in range(start, stop):
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
                    grad_grid[row] += share * (one - b) * (one - a)
                    grad_grid[row + 1] += share * (one - b) * a
                    grad_grid[row + side] += share * b * (one - a)
                    grad_grid[row + side + 1] += share * b * a


@kernel(F2, F2, F2, F2, F2, I8, F1)
def density_backward(origins, directions, edges, density, grad_density, side, grad_grid):
    """Thread t adds to every `threads`-th plane of the grid: a cell gets its samples in their order from one thread."""
    threads = num_threads()
    share_out(_density_backward, threads, (threads, origins, directions, edges, density, grad_density, side, grad_grid))
