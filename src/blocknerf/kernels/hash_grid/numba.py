"""numba kernels of the hash encoding. Forward runs over points, backward over levels, so nothing needs atomics.

Points are [3, points] and encodings [levels features, points]. So a level writes whole cache lines, and the network
after it reads its vector lanes, which are points, contiguously.
"""

import numpy as np

from blocknerf.kernels.jit.compiled import compiled
from blocknerf.kernels.jit.parallel_for import F2, F3, I1, kernel, num_threads, parallel_for, worker_body
from blocknerf.kernels.jit.simd_ir import (
    GROUP,
    gather_2,
    gather_4,
    locate_dense,
    locate_hashed,
    scatter_add_2,
    scatter_add_4,
    trilinear_weights,
)

CHUNK = 65536  # maximum number of points that a thread takes through a level at a time
LEVELS_EACH = 4  # at least this many per thread, or threads share levels
CHUNKS = 4  # of a level per thread, if threads share levels
LINE = 16  # numbers of a cache line


@compiled(kept=False, inline="always")
def _locate(points, begin, size, resolution, rows, group, corners, fractions):
    """Cells of up to GROUP points. All rows of a group are located before any is read, so that reads overlap."""
    for axis in range(3):
        for g in range(size):
            group[axis, g] = min(max(points[axis, begin + g], np.float32(0)), np.float32(1))
    side = resolution + 1
    if side * side * side <= rows:
        locate_dense(group, np.int32(resolution), np.int32(rows - 1), corners, fractions)
    else:
        locate_hashed(group, np.int32(resolution), np.int32(rows - 1), corners, fractions)


@compiled(kept=False, inline="always")
def _fetch(table, level, begin, end, points, into):
    """Reads rows `begin` to `end` in order, if `points` will need about as many cache lines, to load them only once.

    Memory is five times as fast in order as line by line. The sum is written where the caller will overwrite it.
    """
    features = table.shape[2]
    if 4 * points * LINE >= (end - begin) * features:
        total = np.float32(0)
        for row in range(begin, end, LINE // features):
            total += table[level, row, 0]
        into[0, 0] = total


@worker_body
def _encode(start, stop, chunks, at_once, points, table, resolutions, encoded):
    count = points.shape[1]
    levels, rows, features = table.shape
    group = np.zeros((3, GROUP), np.float32)
    corners = np.empty((8, GROUP), np.uint32)
    fractions = np.empty((3, GROUP), np.float32)
    weights = np.empty((8, GROUP), np.float32)
    for unit in range(np.int64(start), np.int64(stop)):
        level, chunk = levels - 1 - unit // chunks, unit % chunks
        first, end = chunk * at_once, min(count, (chunk + 1) * at_once)
        if unit == start or chunk == 0:  # threads that begin with a level load it together
            last = min(chunks, chunk + np.int64(stop) - unit)
            _fetch(
                table, level, rows * chunk // chunks, rows * last // chunks, min(count, last * at_once) - first, weights
            )
        for begin in range(first, end, GROUP):
            size = min(GROUP, end - begin)
            _locate(points, begin, size, resolutions[level], rows, group, corners, fractions)
            trilinear_weights(fractions, weights)
            at = level * features * count + begin
            if features == 2:
                for g in range(size):
                    gather_2(table, level * rows, corners, weights, g, encoded, at + g, count)
            else:
                for g in range(size):
                    gather_4(table, level * rows, corners, weights, g, encoded, at + g, count)


@kernel(F2, F3, I1, F2)
def encode(points, table, resolutions, encoded):
    """encoded: [levels features, points]. One level after the other, so that its rows stay in the cache.

    If there are enough levels for all threads, each level belongs to one core; finest first, so that small ones fill
    the end.
    """
    count, threads = points.shape[1], num_threads()
    shares = 1 if len(table) >= LEVELS_EACH * threads or threads == 1 else threads * CHUNKS
    share = max(1, (count + shares - 1) // shares)
    at_once = min(CHUNK, (share + GROUP - 1) // GROUP * GROUP)
    chunks = (count + at_once - 1) // at_once
    parallel_for(_encode, len(table) * chunks, (chunks, at_once, points, table, resolutions, encoded))


@worker_body
def _encode_backward_table(start, stop, points, resolutions, grad_encoded, grad_table):
    count = points.shape[1]
    levels, rows, features = grad_table.shape
    for level in range(start, stop):
        group = np.zeros((3, GROUP), np.float32)
        corners = np.empty((8, GROUP), np.uint32)
        fractions = np.empty((3, GROUP), np.float32)
        weights = np.empty((8, GROUP), np.float32)
        _fetch(grad_table, level, 0, rows, count, weights)
        for begin in range(0, count, GROUP):
            size = min(GROUP, count - begin)
            _locate(points, begin, size, resolutions[level], rows, group, corners, fractions)
            trilinear_weights(fractions, weights)
            at = level * features * count + begin
            if features == 2:
                for g in range(size):
                    scatter_add_2(grad_table, level * rows, corners, weights, g, grad_encoded, at + g, count)
            else:
                for g in range(size):
                    scatter_add_4(grad_table, level * rows, corners, weights, g, grad_encoded, at + g, count)


@kernel(F2, I1, F2, F3)
def encode_backward_table(points, resolutions, grad_encoded, grad_table):
    """A row gets its points in order, for any number of threads."""
    parallel_for(_encode_backward_table, len(grad_table), (points, resolutions, grad_encoded, grad_table))


@worker_body
def _encode_backward_points(start, stop, points, table, resolutions, grad_encoded, grad_points):
    count = points.shape[1]
    levels, rows, features = table.shape
    for chunk in range(start, stop):
        group = np.zeros((3, GROUP), np.float32)
        corners = np.empty((8, GROUP), np.uint32)
        fractions = np.empty((3, GROUP), np.float32)
        total = np.zeros((3, GROUP), np.float32)
        dots = np.empty(8, np.float32)
        begin = chunk * GROUP
        size = min(GROUP, count - begin)
        for level in range(levels):
            _locate(points, begin, size, resolutions[level], rows, group, corners, fractions)
            for g in range(size):
                for corner in range(8):
                    dot = np.float32(0)
                    for f in range(features):
                        dot += table[level, corners[corner, g], f] * grad_encoded[level * features + f, begin + g]
                    dots[corner] = dot
                for axis in range(3):
                    one, two = (axis + 1) % 3, (axis + 2) % 3
                    low, high = fractions[one, g], fractions[two, g]
                    slope = np.float32(0)
                    for side in range(4):
                        corner = (side & 1) << one | (side >> 1) << two
                        share = (low if side & 1 else 1 - low) * (high if side >> 1 else 1 - high)
                        slope += share * (dots[corner | 1 << axis] - dots[corner])
                    total[axis, g] += resolutions[level] * slope
        for axis in range(3):
            for g in range(size):
                inside = 0 <= points[axis, begin + g] <= 1
                grad_points[axis, begin + g] = total[axis, g] if inside else np.float32(0)


@kernel(F2, F3, I1, F2, F2)
def encode_backward_points(points, table, resolutions, grad_encoded, grad_points):
    parallel_for(
        _encode_backward_points,
        (points.shape[1] + GROUP - 1) // GROUP,
        (points, table, resolutions, grad_encoded, grad_points),
    )
