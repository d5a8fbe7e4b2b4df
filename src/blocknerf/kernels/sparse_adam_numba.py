"""numba kernel of Adam on touched rows, in the order of the table: random access to four arrays would cost more."""

import numpy as np
from numba import njit, prange

CHUNK = 4096
GLANCE = 64  # rows whose marks are looked at together: most rows of a large table are not touched


@njit(parallel=True, fastmath=True, cache=True, nogil=True)
def step(table, values, seen, first, second, rate, beta1, beta2, epsilon):
    levels, rows, features = table.shape
    keep1, keep2 = np.float32(beta1), np.float32(beta2)
    take1, take2 = np.float32(1 - beta1), np.float32(1 - beta2)
    rate32, epsilon32 = np.float32(rate), np.float32(epsilon)
    chunks = (rows + CHUNK - 1) // CHUNK
    for task in prange(levels * chunks):
        level, chunk = task // chunks, task % chunks
        for begin in range(chunk * CHUNK, min(rows, (chunk + 1) * CHUNK), GLANCE):
            end = min(rows, begin + GLANCE)
            any_seen = np.uint8(0)
            for row in range(begin, end):
                any_seen |= seen[level, row]
            if any_seen == 0:
                continue
            for row in range(begin, end):
                if seen[level, row] == 0:
                    continue
                seen[level, row] = 0
                for f in range(features):
                    g = values[level, row, f]
                    m = keep1 * first[level, row, f] + take1 * g
                    v = keep2 * second[level, row, f] + take2 * g * g
                    first[level, row, f] = m
                    second[level, row, f] = v
                    table[level, row, f] -= rate32 * m / (np.sqrt(v) + epsilon32)
                    values[level, row, f] = 0
