"""numba kernels of a network with one hidden layer. Points are the innermost axis of all values: vector lanes.

A group's activations stay in the first-level cache.

Helpers are inlined by force: numba gives one that stands by itself the same symbol in every kernel that calls it, and
which kernel's copy runs, whose sums may be in another order, would depend on what was compiled or loaded before.
"""

import numpy as np
from numba import njit

from blocknerf.kernels.threads_numba import F1, F2, F3, kernel, part, share_out
from blocknerf.kernels.vectors_numba import GROUP, add_outer_product, add_product


@njit(inline="always")
def _take(values, begin, size, tile):
    for i in range(tile.shape[0]):
        for p in range(size):
            tile[i, p] = values[i, begin + p]
        for p in range(size, GROUP):
            tile[i, p] = 0


@njit(fastmath=True, forceinline=True)
def _hidden_layer(x, weight, bias, hidden):
    for j in range(hidden.shape[0]):
        for p in range(GROUP):
            hidden[j, p] = bias[j]
    add_product(weight, x, hidden)
    for j in range(hidden.shape[0]):
        for p in range(GROUP):
            hidden[j, p] = max(hidden[j, p], np.float32(0))


@part
def _forward(start, stop, values, weight1, bias1, weight2, bias2, out):
    inputs, count = values.shape
    outputs = weight2.shape[0]
    for t in range(start, stop):
        begin = t * GROUP
        size = min(GROUP, count - begin)
        x = np.empty((inputs, GROUP), np.float32)
        hidden = np.empty((weight1.shape[0], GROUP), np.float32)
        y = np.empty((outputs, GROUP), np.float32)
        _take(values, begin, size, x)
        _hidden_layer(x, weight1, bias1, hidden)
        for j in range(outputs):
            for p in range(GROUP):
                y[j, p] = bias2[j]
        add_product(weight2, hidden, y)
        for j in range(outputs):
            for p in range(size):
                out[j, begin + p] = y[j, p]


@kernel(F2, F2, F1, F2, F1, F2)
def forward(values, weight1, bias1, weight2, bias2, out):
    share_out(_forward, (values.shape[1] + GROUP - 1) // GROUP, (values, weight1, bias1, weight2, bias2, out))


@part
def _backward(
    start,
    stop,
    values,
    weight1,
    bias1,
    weight1_t,
    weight2_t,
    grad_out,
    grad_values,
    grad1,
    grad_bias1,
    grad2,
    grad_bias2,
):
    inputs, count = values.shape
    width, outputs = weight2_t.shape
    workers = grad1.shape[0]
    tiles = (count + GROUP - 1) // GROUP
    share = (tiles + workers - 1) // workers
    for worker in range(start, stop):
        x = np.empty((inputs, GROUP), np.float32)
        hidden = np.empty((width, GROUP), np.float32)
        gy = np.empty((outputs, GROUP), np.float32)
        gh = np.empty((width, GROUP), np.float32)
        gx = np.empty((inputs, GROUP), np.float32)
        for t in range(worker * share, min(tiles, (worker + 1) * share)):
            begin = t * GROUP
            size = min(GROUP, count - begin)
            _take(values, begin, size, x)
            _take(grad_out, begin, size, gy)
            _hidden_layer(x, weight1, bias1, hidden)
            add_outer_product(gy, hidden, grad2[worker])
            gh[:] = 0
            add_product(weight2_t, gy, gh)
            for j in range(width):
                total = np.float32(0)
                for p in range(GROUP):
                    g = gh[j, p] if hidden[j, p] > 0 else np.float32(0)
                    gh[j, p] = g
                    total += g
                grad_bias1[worker, j] += total
            for j in range(outputs):
                total = np.float32(0)
                for p in range(GROUP):
                    total += gy[j, p]
                grad_bias2[worker, j] += total
            add_outer_product(gh, x, grad1[worker])
            gx[:] = 0
            add_product(weight1_t, gh, gx)
            for i in range(inputs):
                for p in range(size):
                    grad_values[i, begin + p] = gx[i, p]


@kernel(F2, F2, F1, F2, F2, F2, F3, F2, F3, F2)
def backward(values, weight1, bias1, weight2, grad_out, grad_values, grad1, grad_bias1, grad2, grad_bias2):
    """The hidden layer is computed again. grad1 ... hold one slab a worker, which the caller sums in order."""
    weights = (weight1, bias1, weight1.T.copy(), weight2.T.copy())
    share_out(_backward, len(grad1), (values, *weights, grad_out, grad_values, grad1, grad_bias1, grad2, grad_bias2))
