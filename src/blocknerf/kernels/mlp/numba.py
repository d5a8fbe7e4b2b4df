"""numba kernels of networks with one and two hidden layers. Points are the innermost axis of all values: vector lanes.

A group's activations stay in the first-level cache.

Helpers are always inlined. Otherwise numba gives a helper the same symbol in every kernel that calls it, and which copy
runs, maybe with sums in another order, would depend on what was compiled or loaded before.
"""

import numpy as np

from blocknerf.kernels.jit.compiled import compiled
from blocknerf.kernels.jit.parallel_for import F1, F2, F3, kernel, parallel_for, worker_body
from blocknerf.kernels.jit.simd_ir import GROUP, add_outer_product, affine, affine_rectified, product, product_where


@compiled(kept=False, inline="always")
def _take(values, begin, size, tile, row):
    for i in range(values.shape[0]):
        for p in range(np.uint64(size)):  # without a sign no number counts from the end, and the copy is one of blocks
            tile[row + i, p] = values[i, np.uint64(begin) + p]
        for p in range(np.uint64(size), np.uint64(GROUP)):
            tile[row + i, p] = 0


@compiled(kept=False, fastmath=True, forceinline=True)
def _add_sums(gradient, grad_bias):
    for j in range(gradient.shape[0]):
        total = np.float32(0)
        for p in range(GROUP):
            total += gradient[j, p]
        grad_bias[j] += total


@compiled(kept=False, inline="always")
def _put(tile, begin, size, values):
    for i in range(tile.shape[0]):
        for p in range(np.uint64(size)):
            values[i, np.uint64(begin) + p] = tile[i, p]


@worker_body
def _forward(start, stop, values, weight1, bias1, weight2, bias2, out):
    inputs, count = values.shape
    for t in range(start, stop):
        begin = t * GROUP
        size = min(GROUP, count - begin)
        x = np.empty((inputs, GROUP), np.float32)
        hidden = np.empty((len(weight1), GROUP), np.float32)
        y = np.empty((len(weight2), GROUP), np.float32)
        _take(values, begin, size, x, 0)
        affine_rectified(weight1, bias1, x, hidden)
        affine(weight2, bias2, hidden, y)
        _put(y, begin, size, out)


@kernel(F2, F2, F1, F2, F1, F2)
def forward(values, weight1, bias1, weight2, bias2, out):
    parallel_for(_forward, (values.shape[1] + GROUP - 1) // GROUP, (values, weight1, bias1, weight2, bias2, out))


@worker_body
def _backward(
    start,
    stop,
    values,
    weight1,
    bias1,
    weight1_t,
    weight2_t,
    grad_first,
    grad_others,
    grad_values,
    grad1,
    grad_bias1,
    grad2,
    grad_bias2,
):
    inputs, count = values.shape
    width, outputs = weight2_t.shape
    slabs = grad1.shape[0]
    tiles = (count + GROUP - 1) // GROUP
    share = (tiles + slabs - 1) // slabs
    for slab in range(start, stop):
        x = np.empty((inputs, GROUP), np.float32)
        hidden = np.empty((width, GROUP), np.float32)
        gy = np.empty((outputs, GROUP), np.float32)
        gh = np.empty((width, GROUP), np.float32)
        gx = np.empty((inputs, GROUP), np.float32)
        for t in range(slab * share, min(tiles, (slab + 1) * share)):
            begin = t * GROUP
            size = min(GROUP, count - begin)
            _take(values, begin, size, x, 0)
            _take(grad_first, begin, size, gy, 0)
            _take(grad_others, begin, size, gy, len(grad_first))
            affine_rectified(weight1, bias1, x, hidden)
            add_outer_product(gy, hidden, grad2[slab])
            _add_sums(gy, grad_bias2[slab])
            product_where(weight2_t, gy, hidden, gh)
            _add_sums(gh, grad_bias1[slab])
            add_outer_product(gh, x, grad1[slab])
            product(weight1_t, gh, gx)
            _put(gx, begin, size, grad_values)


@kernel(F2, F2, F1, F2, F2, F2, F2, F3, F2, F3, F2)
def backward(
    values, weight1, bias1, weight2, grad_first, grad_others, grad_values, grad1, grad_bias1, grad2, grad_bias2
):
    """Computes the hidden layer again. grad1 ... hold slabs of points, which the caller sums in order.

    The gradient of the first output is separate from that of the others.
    """
    weights, sums = (weight1, bias1, weight1.T.copy(), weight2.T.copy()), (grad1, grad_bias1, grad2, grad_bias2)
    parallel_for(_backward, len(grad1), (values, *weights, grad_first, grad_others, grad_values, *sums))


@worker_body
def _forward_three(start, stop, values, weight1, bias1, weight2, bias2, weight3, bias3, out):
    inputs, count = values.shape
    for t in range(start, stop):
        begin = t * GROUP
        size = min(GROUP, count - begin)
        x = np.empty((inputs, GROUP), np.float32)
        hidden1 = np.empty((len(weight1), GROUP), np.float32)
        hidden2 = np.empty((len(weight2), GROUP), np.float32)
        y = np.empty((len(weight3), GROUP), np.float32)
        _take(values, begin, size, x, 0)
        affine_rectified(weight1, bias1, x, hidden1)
        affine_rectified(weight2, bias2, hidden1, hidden2)
        affine(weight3, bias3, hidden2, y)
        _put(y, begin, size, out)


@kernel(F2, F2, F1, F2, F1, F2, F1, F2)
def forward_three(values, weight1, bias1, weight2, bias2, weight3, bias3, out):
    """Forward pass of three layers, two of them hidden."""
    tiles = (values.shape[1] + GROUP - 1) // GROUP
    parallel_for(_forward_three, tiles, (values, weight1, bias1, weight2, bias2, weight3, bias3, out))


@worker_body
def _backward_three(
    start,
    stop,
    values,
    weight1,
    bias1,
    weight2,
    bias2,
    weight1_t,
    weight2_t,
    weight3_t,
    grad_out,
    grad_values,
    grad1,
    grad_bias1,
    grad2,
    grad_bias2,
    grad3,
    grad_bias3,
):
    inputs, count = values.shape
    slabs = grad1.shape[0]
    tiles = (count + GROUP - 1) // GROUP
    share = (tiles + slabs - 1) // slabs
    for slab in range(start, stop):
        x, gx = np.empty((inputs, GROUP), np.float32), np.empty((inputs, GROUP), np.float32)
        hidden1, gh1 = (
            np.empty((len(weight1), GROUP), np.float32),
            np.empty((len(weight1), GROUP), np.float32),
        )
        hidden2, gh2 = (
            np.empty((len(weight2), GROUP), np.float32),
            np.empty((len(weight2), GROUP), np.float32),
        )
        gy = np.empty((weight3_t.shape[1], GROUP), np.float32)
        for t in range(slab * share, min(tiles, (slab + 1) * share)):
            begin = t * GROUP
            size = min(GROUP, count - begin)
            _take(values, begin, size, x, 0)
            _take(grad_out, begin, size, gy, 0)
            affine_rectified(weight1, bias1, x, hidden1)
            affine_rectified(weight2, bias2, hidden1, hidden2)
            add_outer_product(gy, hidden2, grad3[slab])
            _add_sums(gy, grad_bias3[slab])
            product_where(weight3_t, gy, hidden2, gh2)
            _add_sums(gh2, grad_bias2[slab])
            add_outer_product(gh2, hidden1, grad2[slab])
            product_where(weight2_t, gh2, hidden1, gh1)
            _add_sums(gh1, grad_bias1[slab])
            add_outer_product(gh1, x, grad1[slab])
            product(weight1_t, gh1, gx)
            _put(gx, begin, size, grad_values)


@kernel(F2, F2, F1, F2, F1, F2, F2, F2, F3, F2, F3, F2, F3, F2)
def backward_three(
    values,
    weight1,
    bias1,
    weight2,
    bias2,
    weight3,
    grad_out,
    grad_values,
    grad1,
    grad_bias1,
    grad2,
    grad_bias2,
    grad3,
    grad_bias3,
):
    """Like `backward`, for three layers."""
    turned = (weight1.T.copy(), weight2.T.copy(), weight3.T.copy())
    sums = (grad1, grad_bias1, grad2, grad_bias2, grad3, grad_bias3)
    arguments = (values, weight1, bias1, weight2, bias2, *turned, grad_out, grad_values, *sums)
    parallel_for(_backward_three, len(grad1), arguments)
