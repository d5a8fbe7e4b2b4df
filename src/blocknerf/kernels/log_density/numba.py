"""numba kernels of density from its logarithm."""

import numpy as np

from blocknerf.kernels.jit.fast_math import exp
from blocknerf.kernels.jit.parallel_for import F1, F8, kernel, parallel_for, worker_body


@worker_body
def _density(start, stop, raw, bias, largest_log, out):
    for p in range(start, stop):
        out[p] = exp(min(raw[p] + np.float32(bias), np.float32(largest_log)))


@kernel(F1, F8, F8, F1)
def density(raw, bias, largest_log, out):
    parallel_for(_density, len(raw), (raw, bias, largest_log, out))


@worker_body
def _density_backward(start, stop, raw, bias, largest_log, out, grad_out, grad_raw):
    for p in range(start, stop):
        grows = raw[p] + np.float32(bias) <= np.float32(largest_log)
        grad_raw[p] = grad_out[p] * out[p] if grows else np.float32(0)


@kernel(F1, F8, F8, F1, F1, F1)
def density_backward(raw, bias, largest_log, out, grad_out, grad_raw):
    parallel_for(_density_backward, len(raw), (raw, bias, largest_log, out, grad_out, grad_raw))
