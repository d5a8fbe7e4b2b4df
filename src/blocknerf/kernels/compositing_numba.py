"""numba kernels of compositing, one ray at a time."""

import numpy as np
from numba import njit, prange

from blocknerf.kernels.exp_numba import exp


@njit(parallel=True, fastmath=True, cache=True, nogil=True)
def weights(density, edges, out):
    """Each is what is left of the transmittance before its interval, less what is left behind it."""
    rays, samples = density.shape
    for r in prange(rays):
        depth = np.float32(0)
        for s in range(samples):
            depth += density[r, s] * (edges[r, s + 1] - edges[r, s])
            out[r, s] = depth
        for s in range(samples):
            out[r, s] = exp(-out[r, s])
        before = np.float32(1)
        for s in range(samples):
            behind = out[r, s]
            out[r, s] = before - behind
            before = behind


@njit(parallel=True, fastmath=True, cache=True, nogil=True)
def weights_backward(density, edges, out, grad_out, grad_density):
    """d weight_i / d depth_i = T_i exp(-depth_i); d weight_j / d depth_i = -weight_j for j > i."""
    rays, samples = density.shape
    for r in prange(rays):
        before = np.float32(0)
        for s in range(samples):  # forwards, so that a dense sample far away cannot blur the sums before it
            before += density[r, s] * (edges[r, s + 1] - edges[r, s])
            grad_density[r, s] = before
        for s in range(samples):
            grad_density[r, s] = exp(-grad_density[r, s])  # transmittance behind sample s
        behind = np.float32(0)
        for s in range(samples - 1, -1, -1):
            delta = edges[r, s + 1] - edges[r, s]
            grad_density[r, s] = delta * (grad_out[r, s] * grad_density[r, s] - behind)
            behind += grad_out[r, s] * out[r, s]


@njit(parallel=True, fastmath=True, cache=True, nogil=True)
def accumulate(weight, values, out):
    """values: [channels, rays, samples]."""
    channels, rays, samples = values.shape
    for r in prange(rays):
        for c in range(channels):
            total = np.float32(0)
            for s in range(samples):
                total += weight[r, s] * values[c, r, s]
            out[r, c] = total


@njit(parallel=True, fastmath=True, cache=True, nogil=True)
def accumulate_backward(weight, values, grad_out, grad_weight, grad_values):
    channels, rays, samples = values.shape
    for r in prange(rays):
        for s in range(samples):
            grad_weight[r, s] = 0
        for c in range(channels):
            g = grad_out[r, c]
            for s in range(samples):
                grad_weight[r, s] += g * values[c, r, s]
                grad_values[c, r, s] = g * weight[r, s]
