"""numba kernels of the hash encoding. Forward runs over points, backward over levels, so nothing needs atomics."""

import numpy as np
from numba import njit, prange

CHUNK = 1024  # points a thread takes at a time: their encodings stay in its cache
GROUP = 32


@njit(inline="always")
def _corner_rows(x, y, z, resolution, rows, out):
    """Rows of the 8 corners of cell (x, y, z); bit 0 of the corner steps x, bit 1 y, bit 2 z."""
    side = resolution + 1
    if side * side * side <= rows:
        base = x + side * (y + side * z)
        for corner in range(8):
            out[corner] = base + (corner & 1) + side * ((corner >> 1 & 1) + side * (corner >> 2 & 1))
    else:
        mask = np.uint32(rows - 1)
        hy0 = np.uint32(y) * np.uint32(2654435761)
        hz0 = np.uint32(z) * np.uint32(805459861)
        hy1 = hy0 + np.uint32(2654435761)
        hz1 = hz0 + np.uint32(805459861)
        x0 = np.uint32(x)
        x1 = np.uint32(x + 1)
        out[0] = (x0 ^ hy0 ^ hz0) & mask
        out[1] = (x1 ^ hy0 ^ hz0) & mask
        out[2] = (x0 ^ hy1 ^ hz0) & mask
        out[3] = (x1 ^ hy1 ^ hz0) & mask
        out[4] = (x0 ^ hy0 ^ hz1) & mask
        out[5] = (x1 ^ hy0 ^ hz1) & mask
        out[6] = (x0 ^ hy1 ^ hz1) & mask
        out[7] = (x1 ^ hy1 ^ hz1) & mask


@njit(inline="always")
def _cell(value, resolution):
    scaled = min(max(value, np.float32(0)), np.float32(1)) * np.float32(resolution)
    cell = min(int(scaled), resolution - 1)
    return cell, scaled - np.float32(cell)


@njit(inline="always")
def _corner_weights(fx, fy, fz, out):
    gx, gy, gz = np.float32(1) - fx, np.float32(1) - fy, np.float32(1) - fz
    out[0] = gx * gy * gz
    out[1] = fx * gy * gz
    out[2] = gx * fy * gz
    out[3] = fx * fy * gz
    out[4] = gx * gy * fz
    out[5] = fx * gy * fz
    out[6] = gx * fy * fz
    out[7] = fx * fy * fz


@njit(parallel=True, fastmath=True, cache=True, nogil=True)
def encode(points, table, resolutions, encoded):
    """Rows of a few points are found before any is read, so that the processor waits for many of them at once."""
    count = points.shape[0]
    levels, rows, _ = table.shape
    for chunk in prange((count + CHUNK - 1) // CHUNK):
        corners = np.empty((GROUP, 8), np.int64)
        weights = np.empty((GROUP, 8), np.float32)
        end = min(count, (chunk + 1) * CHUNK)
        for level in range(levels):
            resolution = resolutions[level]
            for begin in range(chunk * CHUNK, end, GROUP):
                size = min(GROUP, end - begin)
                for g in range(size):
                    x, fx = _cell(points[begin + g, 0], resolution)
                    y, fy = _cell(points[begin + g, 1], resolution)
                    z, fz = _cell(points[begin + g, 2], resolution)
                    _corner_rows(x, y, z, resolution, rows, corners[g])
                    _corner_weights(fx, fy, fz, weights[g])
                for g in range(size):
                    a = b = c = d = np.float32(0)
                    for corner in range(8):
                        w = weights[g, corner]
                        row = corners[g, corner]
                        a += w * table[level, row, 0]
                        b += w * table[level, row, 1]
                        c += w * table[level, row, 2]
                        d += w * table[level, row, 3]
                    encoded[begin + g, 4 * level] = a
                    encoded[begin + g, 4 * level + 1] = b
                    encoded[begin + g, 4 * level + 2] = c
                    encoded[begin + g, 4 * level + 3] = d


@njit(parallel=True, fastmath=True, cache=True, nogil=True)
def encode_backward_table(points, resolutions, grad_encoded, values, seen):
    count = points.shape[0]
    levels, rows, _ = values.shape
    for level in prange(levels):
        corners = np.empty(8, np.int64)
        weights = np.empty(8, np.float32)
        resolution = resolutions[level]
        for i in range(count):
            a = grad_encoded[i, 4 * level]
            b = grad_encoded[i, 4 * level + 1]
            c = grad_encoded[i, 4 * level + 2]
            d = grad_encoded[i, 4 * level + 3]
            if a == 0 and b == 0 and c == 0 and d == 0:
                continue
            x, fx = _cell(points[i, 0], resolution)
            y, fy = _cell(points[i, 1], resolution)
            z, fz = _cell(points[i, 2], resolution)
            _corner_rows(x, y, z, resolution, rows, corners)
            _corner_weights(fx, fy, fz, weights)
            for corner in range(8):
                row = corners[corner]
                w = weights[corner]
                seen[level, row] = 1
                values[level, row, 0] += w * a
                values[level, row, 1] += w * b
                values[level, row, 2] += w * c
                values[level, row, 3] += w * d


@njit(parallel=True, fastmath=True, cache=True, nogil=True)
def encode_backward_points(points, table, resolutions, grad_encoded, grad_points):
    count = points.shape[0]
    levels, rows, _ = table.shape
    for chunk in prange((count + CHUNK - 1) // CHUNK):
        corners = np.empty(8, np.int64)
        dots = np.empty(8, np.float32)
        for i in range(chunk * CHUNK, min(count, (chunk + 1) * CHUNK)):
            sx = sy = sz = np.float32(0)
            for level in range(levels):
                resolution = resolutions[level]
                x, fx = _cell(points[i, 0], resolution)
                y, fy = _cell(points[i, 1], resolution)
                z, fz = _cell(points[i, 2], resolution)
                _corner_rows(x, y, z, resolution, rows, corners)
                for corner in range(8):
                    row = corners[corner]
                    dots[corner] = (
                        table[level, row, 0] * grad_encoded[i, 4 * level]
                        + table[level, row, 1] * grad_encoded[i, 4 * level + 1]
                        + table[level, row, 2] * grad_encoded[i, 4 * level + 2]
                        + table[level, row, 3] * grad_encoded[i, 4 * level + 3]
                    )
                gx, gy, gz = np.float32(1) - fx, np.float32(1) - fy, np.float32(1) - fz
                scale = np.float32(resolution)
                sx += scale * (
                    gy * gz * (dots[1] - dots[0]) + fy * gz * (dots[3] - dots[2])
                    + gy * fz * (dots[5] - dots[4]) + fy * fz * (dots[7] - dots[6])
                )  # fmt: skip
                sy += scale * (
                    gx * gz * (dots[2] - dots[0]) + fx * gz * (dots[3] - dots[1])
                    + gx * fz * (dots[6] - dots[4]) + fx * fz * (dots[7] - dots[5])
                )  # fmt: skip
                sz += scale * (
                    gx * gy * (dots[4] - dots[0]) + fx * gy * (dots[5] - dots[1])
                    + gx * fy * (dots[6] - dots[2]) + fx * fy * (dots[7] - dots[3])
                )  # fmt: skip
            grad_points[i, 0] = sx if 0 <= points[i, 0] <= 1 else np.float32(0)
            grad_points[i, 1] = sy if 0 <= points[i, 1] <= 1 else np.float32(0)
            grad_points[i, 2] = sz if 0 <= points[i, 2] <= 1 else np.float32(0)
