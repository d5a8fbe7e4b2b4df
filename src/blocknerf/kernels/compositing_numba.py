"""numba kernels of compositing, one ray at a time."""

import numpy as np
from numba import njit, prange


@njit(parallel=True, fastmath=True, cache=True, nogil=True)
def weights(density, edges, out):
    rays, samples = density.shape
    for r in prange(rays):
        before = np.float32(0)
        for s in range(samples):
            depth = density[r, s] * (edges[r, s + 1] - edges[r, s])
            out[r, s] = np.exp(-before) * (np.float32(1) - np.exp(-depth))
            before += depth


@njit(parallel=True, fastmath=True, cache=True, nogil=True)
def weights_backward(density, edges, out, grad_out, grad_density):
    """d weight_i / d depth_i = T_i exp(-depth_i); d weight_j / d depth_i = -weight_j for j > i."""
    rays, samples = density.shape
    for r in prange(rays):
        before = np.float32(0)
        for s in range(samples):  # forwards, so that a dense sample far away cannot blur the sums before it
            before += density[r, s] * (edges[r, s + 1] - edges[r, s])
            grad_density[r, s] = np.exp(-before)  # transmittance behind sample s
        behind = np.float32(0)
        for s in range(samples - 1, -1, -1):
            delta = edges[r, s + 1] - edges[r, s]
            grad_density[r, s] = delta * (grad_out[r, s] * grad_density[r, s] - behind)
            behind += grad_out[r, s] * out[r, s]


@njit(parallel=True, fastmath=True, cache=True, nogil=True)
def accumulate(weight, values, out):
    rays, samples, channels = values.shape
    for r in prange(rays):
        for c in range(channels):
            out[r, c] = 0
        for s in range(samples):
            w = weight[r, s]
            for c in range(channels):
                out[r, c] += w * values[r, s, c]


@njit(parallel=True, fastmath=True, cache=True, nogil=True)
def accumulate_backward(weight, values, grad_out, grad_weight, grad_values):
    rays, samples, channels = values.shape
    for r in prange(rays):
        for s in range(samples):
            w = weight[r, s]
            dot = np.float32(0)
            for c in range(channels):
                g = grad_out[r, c]
                dot += g * values[r, s, c]
                grad_values[r, s, c] = w * g
            grad_weight[r, s] = dot
