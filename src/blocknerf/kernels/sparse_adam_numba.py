"""numba kernel of Adam on touched rows, in the order of the table: random access to four arrays would cost more."""

import numpy as np
from numba import njit, prange

CHUNK = 4096


@njit(parallel=True, fastmath=True, cache=True, nogil=True)
def step(table, values, seen, first, second, rate, beta1, beta2, epsilon):
    levels, rows, features = table.shape
    keep1, keep2 = np.float32(beta1), np.float32(beta2)
    take1, take2 = np.float32(1 - beta1), np.float32(1 - beta2)
    rate32, epsilon32 = np.float32(rate), np.float32(epsilon)
    chunks = (rows + CHUNK - 1) // CHUNK
    for task in prange(levels * chunks):
        level, chunk = task // chunks, task % chunks
        for row in range(chunk * CHUNK, min(rows, (chunk + 1) * CHUNK)):
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
