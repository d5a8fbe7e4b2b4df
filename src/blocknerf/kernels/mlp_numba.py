"""numba kernels of a network with one hidden layer. Points are the innermost axis of all values: vector lanes.

A tile's activations stay in the first-level cache; eight inputs are multiplied at a time, so that most instructions
are multiply-adds and not loads and stores.

Helpers are inlined by force: numba gives one that stands by itself the same symbol in every kernel that calls it, and
which kernel's copy runs, whose sums may be in another order, would depend on what was compiled or loaded before.
"""

import numpy as np
from numba import njit, prange

TILE = 64  # points


@njit(inline="always")
def _take(values, begin, size, tile):
    for i in range(tile.shape[0]):
        for p in range(size):
            tile[i, p] = values[i, begin + p]
        for p in range(size, TILE):
            tile[i, p] = 0


@njit(fastmath=True, forceinline=True)
def _multiply_add(weight, tile, out):
    """out[j] += sum_k weight[j, k] tile[k], for all lanes."""
    outputs, inputs = weight.shape
    whole = inputs // 8 * 8
    for j in range(outputs):
        for k in range(0, whole, 8):
            w0, w1, w2, w3 = weight[j, k], weight[j, k + 1], weight[j, k + 2], weight[j, k + 3]
            w4, w5, w6, w7 = weight[j, k + 4], weight[j, k + 5], weight[j, k + 6], weight[j, k + 7]
            for p in range(TILE):
                out[j, p] += (
                    w0 * tile[k, p] + w1 * tile[k + 1, p] + w2 * tile[k + 2, p] + w3 * tile[k + 3, p]
                    + w4 * tile[k + 4, p] + w5 * tile[k + 5, p] + w6 * tile[k + 6, p] + w7 * tile[k + 7, p]
                )  # fmt: skip
        for k in range(whole, inputs):
            w0 = weight[j, k]
            for p in range(TILE):
                out[j, p] += w0 * tile[k, p]


@njit(fastmath=True, forceinline=True)
def _outer_add(left, right, grad):
    """grad[j, k] += sum_p left[j, p] right[k, p]."""
    rows, columns = grad.shape
    whole = columns // 4 * 4
    for j in range(rows):
        for k in range(0, whole, 4):
            a = b = c = d = np.float32(0)
            for p in range(TILE):
                value = left[j, p]
                a += value * right[k, p]
                b += value * right[k + 1, p]
                c += value * right[k + 2, p]
                d += value * right[k + 3, p]
            grad[j, k] += a
            grad[j, k + 1] += b
            grad[j, k + 2] += c
            grad[j, k + 3] += d
        for k in range(whole, columns):
            a = np.float32(0)
            for p in range(TILE):
                a += left[j, p] * right[k, p]
            grad[j, k] += a


@njit(fastmath=True, forceinline=True)
def _hidden_layer(x, weight, bias, hidden):
    for j in range(hidden.shape[0]):
        for p in range(TILE):
            hidden[j, p] = bias[j]
    _multiply_add(weight, x, hidden)
    for j in range(hidden.shape[0]):
        for p in range(TILE):
            hidden[j, p] = max(hidden[j, p], np.float32(0))


@njit(parallel=True, fastmath=True, cache=True, nogil=True)
def forward(values, weight1, bias1, weight2, bias2, out):
    inputs, count = values.shape
    outputs = weight2.shape[0]
    for t in prange((count + TILE - 1) // TILE):
        begin = t * TILE
        size = min(TILE, count - begin)
        x = np.empty((inputs, TILE), np.float32)
        hidden = np.empty((weight1.shape[0], TILE), np.float32)
        y = np.empty((outputs, TILE), np.float32)
        _take(values, begin, size, x)
        _hidden_layer(x, weight1, bias1, hidden)
        for j in range(outputs):
            for p in range(TILE):
                y[j, p] = bias2[j]
        _multiply_add(weight2, hidden, y)
        for j in range(outputs):
            for p in range(size):
                out[j, begin + p] = y[j, p]


@njit(parallel=True, fastmath=True, cache=True, nogil=True)
def backward(values, weight1, bias1, weight2, grad_out, grad_values, grad1, grad_bias1, grad2, grad_bias2):
    """The hidden layer is computed again. grad1 ... hold one slab a worker, which the caller sums in order."""
    inputs, count = values.shape
    width, outputs = weight1.shape[0], weight2.shape[0]
    workers = grad1.shape[0]
    weight1_t, weight2_t = weight1.T.copy(), weight2.T.copy()
    tiles = (count + TILE - 1) // TILE
    share = (tiles + workers - 1) // workers
    for worker in prange(workers):
        x = np.empty((inputs, TILE), np.float32)
        hidden = np.empty((width, TILE), np.float32)
        gy = np.empty((outputs, TILE), np.float32)
        gh = np.empty((width, TILE), np.float32)
        gx = np.empty((inputs, TILE), np.float32)
        for t in range(worker * share, min(tiles, (worker + 1) * share)):
            begin = t * TILE
            size = min(TILE, count - begin)
            _take(values, begin, size, x)
            _take(grad_out, begin, size, gy)
            _hidden_layer(x, weight1, bias1, hidden)
            _outer_add(gy, hidden, grad2[worker])
            gh[:] = 0
            _multiply_add(weight2_t, gy, gh)
            for j in range(width):
                total = np.float32(0)
                for p in range(TILE):
                    g = gh[j, p] if hidden[j, p] > 0 else np.float32(0)
                    gh[j, p] = g
                    total += g
                grad_bias1[worker, j] += total
            for j in range(outputs):
                total = np.float32(0)
                for p in range(TILE):
                    total += gy[j, p]
                grad_bias2[worker, j] += total
            _outer_add(gh, x, grad1[worker])
            gx[:] = 0
            _multiply_add(weight1_t, gh, gx)
            for i in range(inputs):
                for p in range(size):
                    grad_values[i, begin + p] = gx[i, p]
