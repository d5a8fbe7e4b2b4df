"""numba kernel of Adam on touched rows, in the order of the table: random access to four arrays would cost more."""

import numpy as np

from blocknerf.kernels.jit.parallel_for import F3, F8, kernel, parallel_for, worker_body
from blocknerf.kernels.jit.simd_ir import LANES, adam_1, adam_2, adam_4


@worker_body
def _lines(start, stop, table, gradient, first, second, rate, keep1, take1, keep2, take2, epsilon):
    """Rows of 1, 2 or 4 features, LANES numbers at a time."""
    features = table.shape[1]
    for line in range(start, stop):
        at = np.int64(line) * LANES
        if features == 4:
            adam_4(table, gradient, first, second, at, rate, keep1, take1, keep2, take2, epsilon)
        elif features == 2:
            adam_2(table, gradient, first, second, at, rate, keep1, take1, keep2, take2, epsilon)
        else:
            adam_1(table, gradient, first, second, at, rate, keep1, take1, keep2, take2, epsilon)


@worker_body
def _rows(start, stop, skipped, table, gradient, first, second, rate, keep1, take1, keep2, take2, epsilon):
    """Rows of any width, from row `skipped`."""
    features = table.shape[1]
    bits, number = gradient.view(np.uint32), np.uint32(0x7FFFFFFF)  # a zero may have either sign
    for row in range(skipped + start, skipped + stop):
        touched = np.uint32(0)
        for f in range(features):
            touched |= bits[row, f] & number
        if touched == 0:
            continue
        for f in range(features):
            slope = gradient[row, f]
            m = keep1 * first[row, f] + take1 * slope
            v = keep2 * second[row, f] + take2 * slope * slope
            first[row, f] = m
            second[row, f] = v
            table[row, f] -= rate * m / (np.sqrt(v) + epsilon)
            gradient[row, f] = 0


@kernel(F3, F3, F3, F3, F8, F8, F8, F8)
def step(table, gradient, first, second, rate, beta1, beta2, epsilon):
    levels, rows, features = table.shape
    count, shape = levels * rows, (levels * rows, features)
    flat = table.reshape(shape), gradient.reshape(shape), first.reshape(shape), second.reshape(shape)
    betas = np.float32(beta1), np.float32(1 - beta1), np.float32(beta2), np.float32(1 - beta2)
    numbers = (np.float32(rate), *betas, np.float32(epsilon))
    lines = count * features // LANES if features in (1, 2, 4) else 0
    parallel_for(_lines, lines, (*flat, *numbers))
    done = lines * LANES // features
    if done < count:
        parallel_for(_rows, count - done, (done, *flat, *numbers))
