"""numba kernels of compositing, one ray at a time."""

import numpy as np

from blocknerf.kernels.jit.fast_math import exp
from blocknerf.kernels.jit.parallel_for import F2, F3, kernel, parallel_for, worker_body


@worker_body
def _weights(start, stop, density, edges, out):
    rays, samples = density.shape
    for r in range(start, stop):
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


@kernel(F2, F2, F2)
def weights(density, edges, out):
    """Each weight is the transmittance before its interval, minus that after it."""
    parallel_for(_weights, len(density), (density, edges, out))


@worker_body
def _weights_backward(start, stop, density, edges, out, grad_out, grad_density):
    rays, samples = density.shape
    for r in range(start, stop):
        before = np.float32(0)
        for s in range(samples):  # forwards, so that a dense sample far away does not make the sums before it inexact
            before += density[r, s] * (edges[r, s + 1] - edges[r, s])
            grad_density[r, s] = before
        for s in range(samples):
            grad_density[r, s] = exp(-grad_density[r, s])  # transmittance behind sample s
        behind = np.float32(0)
        for s in range(samples - 1, -1, -1):
            delta = edges[r, s + 1] - edges[r, s]
            grad_density[r, s] = delta * (grad_out[r, s] * grad_density[r, s] - behind)
            behind += grad_out[r, s] * out[r, s]


@kernel(F2, F2, F2, F2, F2)
def weights_backward(density, edges, out, grad_out, grad_density):
    """d weight_i / d depth_i = T_i exp(-depth_i); d weight_j / d depth_i = -weight_j for j > i."""
    parallel_for(_weights_backward, len(density), (density, edges, out, grad_out, grad_density))


@worker_body
def _accumulate(start, stop, weight, values, out):
    channels, rays, samples = values.shape
    for r in range(start, stop):
        for c in range(channels):
            total = np.float32(0)
            for s in range(samples):
                total += weight[r, s] * values[c, r, s]
            out[r, c] = total


@kernel(F2, F3, F2)
def accumulate(weight, values, out):
    """values: [channels, rays, samples]."""
    parallel_for(_accumulate, len(weight), (weight, values, out))


@worker_body
def _accumulate_backward(start, stop, weight, values, grad_out, grad_weight, grad_values):
    channels, rays, samples = values.shape
    for r in range(start, stop):
        for s in range(samples):
            grad_weight[r, s] = 0
        for c in range(channels):
            g = grad_out[r, c]
            for s in range(samples):
                grad_weight[r, s] += g * values[c, r, s]
                grad_values[c, r, s] = g * weight[r, s]


@kernel(F2, F3, F2, F2, F3)
def accumulate_backward(weight, values, grad_out, grad_weight, grad_values):
    parallel_for(_accumulate_backward, len(weight), (weight, values, grad_out, grad_weight, grad_values))
