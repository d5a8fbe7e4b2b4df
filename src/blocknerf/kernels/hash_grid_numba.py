"""numba kernels of the hash encoding. Forward runs over points, backward over levels, so nothing needs atomics.

Encodings are feature after feature, [levels features, points]: a level writes whole cache lines, and the network
behind it reads its lanes, which are points, side by side.
"""

import numpy as np
from numba import get_num_threads, njit, prange

from blocknerf.kernels.rows_numba import GROUP, add_2, add_4, blend_2, blend_4

CHUNK = 65536  # points at most that a thread takes through all levels, so that a level is fetched once for all of them
LINE = 16  # numbers of a cache line


@njit(inline="always")
def _locate(points, begin, size, resolution, rows, corners, fractions):
    """Rows of the 8 corners of each point's cell, and where in it the point is; bit 0 of a corner steps x, 1 y, 2 z."""
    zero, one, scale, top = np.float32(0), np.float32(1), np.float32(resolution), np.int32(resolution - 1)
    side = resolution + 1
    if side * side * side <= rows:
        step_y, step_z = np.uint32(side), np.uint32(side * side)
        for g in range(size):
            u = min(max(points[begin + g, 0], zero), one) * scale
            v = min(max(points[begin + g, 1], zero), one) * scale
            w = min(max(points[begin + g, 2], zero), one) * scale
            i, j, k = min(np.int32(u), top), min(np.int32(v), top), min(np.int32(w), top)
            fractions[0, g], fractions[1, g], fractions[2, g] = u - np.float32(i), v - np.float32(j), w - np.float32(k)
            row_y, row_z = np.uint32(step_y * np.uint32(j)), np.uint32(step_z * np.uint32(k))
            base = np.uint32(np.uint32(np.uint32(i) + row_y) + row_z)
            corners[0, g] = base
            corners[1, g] = np.uint32(base + np.uint32(1))
            corners[2, g] = np.uint32(base + step_y)
            corners[3, g] = np.uint32(np.uint32(base + step_y) + np.uint32(1))
            corners[4, g] = np.uint32(base + step_z)
            corners[5, g] = np.uint32(np.uint32(base + step_z) + np.uint32(1))
            corners[6, g] = np.uint32(np.uint32(base + step_z) + step_y)
            corners[7, g] = np.uint32(np.uint32(np.uint32(base + step_z) + step_y) + np.uint32(1))
    else:
        prime_y, prime_z, mask = np.uint32(2654435761), np.uint32(805459861), np.uint32(rows - 1)
        for g in range(size):
            u = min(max(points[begin + g, 0], zero), one) * scale
            v = min(max(points[begin + g, 1], zero), one) * scale
            w = min(max(points[begin + g, 2], zero), one) * scale
            i, j, k = min(np.int32(u), top), min(np.int32(v), top), min(np.int32(w), top)
            fractions[0, g], fractions[1, g], fractions[2, g] = u - np.float32(i), v - np.float32(j), w - np.float32(k)
            x0, y0, z0 = np.uint32(i), np.uint32(np.uint32(j) * prime_y), np.uint32(np.uint32(k) * prime_z)
            x1, y1, z1 = np.uint32(x0 + np.uint32(1)), np.uint32(y0 + prime_y), np.uint32(z0 + prime_z)
            a, b, c, d = y0 ^ z0, y1 ^ z0, y0 ^ z1, y1 ^ z1
            corners[0, g] = (x0 ^ a) & mask
            corners[1, g] = (x1 ^ a) & mask
            corners[2, g] = (x0 ^ b) & mask
            corners[3, g] = (x1 ^ b) & mask
            corners[4, g] = (x0 ^ c) & mask
            corners[5, g] = (x1 ^ c) & mask
            corners[6, g] = (x0 ^ d) & mask
            corners[7, g] = (x1 ^ d) & mask


@njit(inline="always")
def _weigh(fractions, size, weights):
    one = np.float32(1)
    for g in range(size):
        fx, fy, fz = fractions[0, g], fractions[1, g], fractions[2, g]
        gx, gy, gz = one - fx, one - fy, one - fz
        weights[0, g] = gx * gy * gz
        weights[1, g] = fx * gy * gz
        weights[2, g] = gx * fy * gz
        weights[3, g] = fx * fy * gz
        weights[4, g] = gx * gy * fz
        weights[5, g] = fx * gy * fz
        weights[6, g] = gx * fy * fz
        weights[7, g] = fx * fy * fz


@njit(inline="always")
def _fetch(table, level, begin, end, points, into):
    """Reads rows `begin` to `end` in order where points will ask for about as many lines, and memory is asked once.

    In order memory gives five times as much as line by line. The sum goes where the caller will overwrite it.
    """
    features = table.shape[2]
    if 4 * points * LINE >= (end - begin) * features:
        total = np.float32(0)
        for row in range(begin, end, LINE // features):
            total += table[level, row, 0]
        into[0, 0] = total


def encode(points, table, resolutions, encoded):
    """encoded: [levels features, points]."""
    _encode(points, table, resolutions, encoded, get_num_threads())  # asked for inside, a kernel could not be cached


@njit(parallel=True, fastmath=True, cache=True, nogil=True)
def _encode(points, table, resolutions, encoded, threads):
    """Rows of a group are found before any is read, so that the processor waits for many of them at once."""
    count = points.shape[0]
    levels, rows, features = table.shape
    share = max(1, (count + threads - 1) // threads)
    at_once = min(CHUNK, (share + GROUP - 1) // GROUP * GROUP)
    chunks = (count + at_once - 1) // at_once
    for chunk in prange(chunks):
        corners = np.empty((8, GROUP), np.uint32)
        fractions = np.empty((3, GROUP), np.float32)
        weights = np.empty((8, GROUP), np.float32)
        end = min(count, (chunk + 1) * at_once)
        for level in range(levels):
            _fetch(table, level, rows * chunk // chunks, rows * (chunk + 1) // chunks, end - chunk * at_once, weights)
            for begin in range(chunk * at_once, end, GROUP):
                size = min(GROUP, end - begin)
                _locate(points, begin, size, resolutions[level], rows, corners, fractions)
                _weigh(fractions, size, weights)
                at = level * features * count + begin
                if features == 2:
                    for g in range(size):
                        blend_2(table, level * rows, corners, weights, g, encoded, at + g, count)
                else:
                    for g in range(size):
                        blend_4(table, level * rows, corners, weights, g, encoded, at + g, count)


@njit(parallel=True, fastmath=True, cache=True, nogil=True)
def encode_backward_table(points, resolutions, grad_encoded, values, seen):
    """A row gets its points in their order, whatever the number of threads."""
    count = points.shape[0]
    levels, rows, features = values.shape
    for level in prange(levels):
        corners = np.empty((8, GROUP), np.uint32)
        fractions = np.empty((3, GROUP), np.float32)
        weights = np.empty((8, GROUP), np.float32)
        _fetch(values, level, 0, rows, count, weights)
        for begin in range(0, count, GROUP):
            size = min(GROUP, count - begin)
            _locate(points, begin, size, resolutions[level], rows, corners, fractions)
            _weigh(fractions, size, weights)
            at = level * features * count + begin
            if features == 2:
                for g in range(size):
                    add_2(values, level * rows, corners, weights, g, grad_encoded, at + g, count)
            else:
                for g in range(size):
                    add_4(values, level * rows, corners, weights, g, grad_encoded, at + g, count)
            for corner in range(8):
                for g in range(size):
                    seen[level, corners[corner, g]] = 1


@njit(parallel=True, fastmath=True, cache=True, nogil=True)
def encode_backward_points(points, table, resolutions, grad_encoded, grad_points):
    count = points.shape[0]
    levels, rows, features = table.shape
    for chunk in prange((count + GROUP - 1) // GROUP):
        corners = np.empty((8, GROUP), np.uint32)
        fractions = np.empty((3, GROUP), np.float32)
        dots = np.empty(8, np.float32)
        begin = chunk * GROUP
        size = min(GROUP, count - begin)
        for g in range(size):
            for axis in range(3):
                grad_points[begin + g, axis] = 0
        for level in range(levels):
            scale = np.float32(resolutions[level])
            _locate(points, begin, size, resolutions[level], rows, corners, fractions)
            for g in range(size):
                for corner in range(8):
                    dot = np.float32(0)
                    for f in range(features):
                        dot += table[level, corners[corner, g], f] * grad_encoded[level * features + f, begin + g]
                    dots[corner] = dot
                fx, fy, fz = fractions[0, g], fractions[1, g], fractions[2, g]
                gx, gy, gz = np.float32(1) - fx, np.float32(1) - fy, np.float32(1) - fz
                grad_points[begin + g, 0] += scale * (
                    gy * gz * (dots[1] - dots[0]) + fy * gz * (dots[3] - dots[2])
                    + gy * fz * (dots[5] - dots[4]) + fy * fz * (dots[7] - dots[6])
                )  # fmt: skip
                grad_points[begin + g, 1] += scale * (
                    gx * gz * (dots[2] - dots[0]) + fx * gz * (dots[3] - dots[1])
                    + gx * fz * (dots[6] - dots[4]) + fx * fz * (dots[7] - dots[5])
                )  # fmt: skip
                grad_points[begin + g, 2] += scale * (
                    gx * gy * (dots[4] - dots[0]) + fx * gy * (dots[5] - dots[1])
                    + gx * fy * (dots[6] - dots[2]) + fx * fy * (dots[7] - dots[3])
                )  # fmt: skip
        for g in range(size):
            for axis in range(3):
                if not 0 <= points[begin + g, axis] <= 1:
                    grad_points[begin + g, axis] = 0
