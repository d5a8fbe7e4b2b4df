"""numba kernels of places along rays."""

import numpy as np
from numba import njit, prange


@njit(inline="always")
def contracted_point(origins, directions, r, t):
    """The point at distance t along ray r, contracted, in the unit cube (geometry.contraction)."""
    half, one, two = np.float32(0.5), np.float32(1), np.float32(2)
    x = origins[r, 0] + t * directions[r, 0]
    y = origins[r, 1] + t * directions[r, 1]
    z = origins[r, 2] + t * directions[r, 2]
    norm = max(max(abs(x), abs(y)), max(abs(z), one))
    squeeze = (two - one / norm) / norm * np.float32(0.25)
    return x * squeeze + half, y * squeeze + half, z * squeeze + half


@njit(parallel=True, fastmath=True, cache=True, nogil=True)
def distances(edges_s, near_s, far_s, out):
    rays, edges = edges_s.shape
    low, span = np.float32(near_s), np.float32(far_s - near_s)
    for r in prange(rays):
        for e in range(edges):
            s = low + span * edges_s[r, e]
            out[r, e] = np.float32(2) * s if s < np.float32(0.5) else np.float32(0.5) / (np.float32(1) - s)


@njit(parallel=True, fastmath=True, cache=True, nogil=True)
def unit_cube_points(origins, directions, edges, out):
    rays, samples, _ = out.shape
    for r in prange(rays):
        for s in range(samples):
            t = np.float32(0.5) * (edges[r, s] + edges[r, s + 1])
            x, y, z = contracted_point(origins, directions, r, t)
            out[r, s, 0] = x
            out[r, s, 1] = y
            out[r, s, 2] = z
