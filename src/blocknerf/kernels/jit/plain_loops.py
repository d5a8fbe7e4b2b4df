"""`parallel_for.py`, `simd_ir.py` and `fast_math.py` as plain loops in one thread, for unknown versions of numba.

Names and arguments are the same, and so are results except for rounding.
"""

from typing import Any

import numpy as np

from blocknerf.kernels.jit.compiled import compiled

GROUP = 64
"""Points side by side."""
LANES = 16
"""Numbers side by side."""
PRIME_Y, PRIME_Z = 2654435761, 805459861  # as in hash_grid/reference.py

worker_body: Any = compiled(kept=False, fastmath=True, error_model="numpy")


@compiled(kept=False)
def num_threads():
    return 1


@compiled(kept=False)
def parallel_for(body, count, arguments):
    if count > 0:
        body(np.uint64(0), np.uint64(count), *arguments)


@compiled(kept=False)
def whole_between(x, low, high):
    if not x > low:  # NaN too
        return low
    return high if x >= high else np.int64(x)


@compiled(kept=False)
def locate_hashed(points, resolution, mask, corners, fractions):
    _locate(points, resolution, mask, corners, fractions, np.int64(PRIME_Y), np.int64(PRIME_Z), True)


@compiled(kept=False)
def locate_dense(points, resolution, mask, corners, fractions):
    side = np.int64(resolution) + 1
    _locate(points, resolution, mask, corners, fractions, side, side * side, False)


@compiled(kept=False)
def _locate(points, resolution, mask, corners, fractions, step_y, step_z, hashed):
    for g in range(points.shape[1]):
        scaled = points[:, g] * np.float32(resolution)
        cell = np.empty(3, np.int64)
        for axis in range(3):
            cell[axis] = whole_between(scaled[axis], 0, resolution - 1)
            fractions[axis, g] = scaled[axis] - np.float32(cell[axis])
        for corner in range(8):
            x = cell[0] + (corner & 1)
            y, z = (cell[1] + (corner >> 1 & 1)) * step_y, (cell[2] + (corner >> 2)) * step_z
            corners[corner, g] = (x ^ y ^ z) & mask if hashed else x + y + z


@compiled(kept=False)
def trilinear_weights(fractions, weights):
    for g in range(fractions.shape[1]):
        for corner in range(8):
            weight = np.float32(1)
            for axis in range(3):
                fraction = fractions[axis, g]
                weight *= fraction if corner >> axis & 1 else np.float32(1) - fraction
            weights[corner, g] = weight


@compiled(kept=False)
def gather_2(table, first, rows, weights, g, out, at, stride):
    _gather(2, table, first, rows, weights, g, out, at, stride)


@compiled(kept=False)
def gather_4(table, first, rows, weights, g, out, at, stride):
    _gather(4, table, first, rows, weights, g, out, at, stride)


@compiled(kept=False)
def _gather(features, table, first, rows, weights, g, out, at, stride):
    numbers, into = table.reshape(-1), out.reshape(-1)
    for f in range(features):
        total = np.float32(0)
        for corner in range(8):
            total += weights[corner, g] * numbers[(first + np.int64(rows[corner, g])) * features + f]
        into[at + f * stride] = total


@compiled(kept=False)
def scatter_add_2(table, first, rows, weights, g, gradient, at, stride):
    _scatter_add(2, table, first, rows, weights, g, gradient, at, stride)


@compiled(kept=False)
def scatter_add_4(table, first, rows, weights, g, gradient, at, stride):
    _scatter_add(4, table, first, rows, weights, g, gradient, at, stride)


@compiled(kept=False)
def _scatter_add(features, table, first, rows, weights, g, gradient, at, stride):
    numbers, slopes = table.reshape(-1), gradient.reshape(-1)
    for corner in range(8):
        begin = (first + np.int64(rows[corner, g])) * features
        for f in range(features):
            numbers[begin + f] += weights[corner, g] * slopes[at + f * stride]


@compiled(kept=False)
def adam_1(table, gradient, first, second, at, rate, keep1, take1, keep2, take2, epsilon):
    _adam(1, table, gradient, first, second, at, rate, keep1, take1, keep2, take2, epsilon)


@compiled(kept=False)
def adam_2(table, gradient, first, second, at, rate, keep1, take1, keep2, take2, epsilon):
    _adam(2, table, gradient, first, second, at, rate, keep1, take1, keep2, take2, epsilon)


@compiled(kept=False)
def adam_4(table, gradient, first, second, at, rate, keep1, take1, keep2, take2, epsilon):
    _adam(4, table, gradient, first, second, at, rate, keep1, take1, keep2, take2, epsilon)


@compiled(kept=False)
def _adam(features, table, gradient, first, second, at, rate, keep1, take1, keep2, take2, epsilon):
    values, slopes, means, squares = table.reshape(-1), gradient.reshape(-1), first.reshape(-1), second.reshape(-1)
    for row in range(at, at + LANES, features):
        touched = False
        for i in range(row, row + features):
            touched |= slopes[i] != 0
        for i in range(row, row + features if touched else row):
            means[i] = keep1 * means[i] + take1 * slopes[i]
            squares[i] = keep2 * squares[i] + take2 * slopes[i] * slopes[i]
            values[i] -= rate * means[i] / (np.sqrt(squares[i]) + epsilon)
            slopes[i] = 0


@compiled(kept=False)
def product(matrix, values, out):
    for row in range(matrix.shape[0]):
        for g in range(GROUP):
            total = np.float32(0)
            for column in range(matrix.shape[1]):
                total += matrix[row, column] * values[column, g]
            out[row, g] = total


@compiled(kept=False)
def product_where(matrix, values, kept, out):
    product(matrix, values, out)
    for row in range(out.shape[0]):
        for g in range(GROUP):
            if not kept[row, g] > 0:
                out[row, g] = 0


@compiled(kept=False)
def affine(matrix, bias, values, out):
    product(matrix, values, out)
    for row in range(out.shape[0]):
        for g in range(GROUP):
            out[row, g] += bias[row]


@compiled(kept=False)
def affine_rectified(matrix, bias, values, out):
    affine(matrix, bias, values, out)
    for row in range(out.shape[0]):
        for g in range(GROUP):
            if out[row, g] < 0:  # what is not a number stays so
                out[row, g] = 0


@compiled(kept=False)
def add_outer_product(left, right, out):
    for row in range(left.shape[0]):
        for column in range(right.shape[0]):
            total = np.float32(0)
            for g in range(GROUP):
                total += left[row, g] * right[column, g]
            out[row, column] += total
