"""numba kernels of density from its logarithm."""

import numpy as np

from blocknerf.kernels.elementary_numba import exp
from blocknerf.kernels.threads_numba import F1, F8, kernel, part, share_out


@part
def _density(start, stop, raw, bias, largest_log, out):
    for p in range(start, stop):
        out[p] = exp(min(raw[p] + np.float32(bias), np.float32(largest_log)))


@kernel(F1, F8, F8, F1)
def density(raw, bias, largest_log, out):
    share_out(_density, len(raw), (raw, bias, largest_log, out))


@part
def _density_backward(start, stop, raw, bias, largest_log, out, grad_out, grad_raw):
    for p in range(start, stop):
        grows = raw[p] + np.float32(bias) <= np.float32(largest_log)
        grad_raw[p] = grad_out[p] * out[p] if grows else np.float32(0)


@kernel(F1, F8, F8, F1, F1, F1)
def density_backward(raw, bias, largest_log, out, grad_out, grad_raw):
    share_out(_density_backward, len(raw), (raw, bias, largest_log, out, grad_out, grad_raw))
