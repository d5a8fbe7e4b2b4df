"""numba kernel of Adam on touched rows, in the order of the table: random access to four arrays would cost more."""

import numpy as np

from blocknerf.kernels.threads_numba import F3, F8, U2, kernel, part, share_out

CHUNK = 4096
GLANCE = 64  # rows whose marks are looked at together: most rows of a large table are not touched


@part
def _step(start, stop, table, values, seen, first, second, rate, beta1, beta2, epsilon):
    levels, rows, features = table.shape
    keep1, keep2 = np.float32(beta1), np.float32(beta2)
    take1, take2 = np.float32(1 - beta1), np.float32(1 - beta2)
    rate32, epsilon32 = np.float32(rate), np.float32(epsilon)
    chunks = (rows + CHUNK - 1) // CHUNK
    for task in range(start, stop):
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


@kernel(F3, F3, U2, F3, F3, F8, F8, F8, F8)
def step(table, values, seen, first, second, rate, beta1, beta2, epsilon):
    levels, rows, _ = table.shape
    chunks = (rows + CHUNK - 1) // CHUNK
    share_out(_step, levels * chunks, (table, values, seen, first, second, rate, beta1, beta2, epsilon))
