"""Sharing out among threads: every part of a range once, whatever its size and however many threads there are."""

import numpy as np
import pytest

from blocknerf.kernels.threads_numba import I1, I8, kernel, num_threads, part, share_out


@part
def _count(start, stop, seen, begins):
    begins[start] += 1
    for i in range(start, stop):
        seen[i] += 1


@kernel(I8, I1, I1)
def count(size, seen, begins):
    share_out(_count, size, (seen, begins))
    seen[-1] = num_threads()


@part
def _ask_for_too_much(start, stop, size, out):
    for i in range(start, stop):
        out[i] = len(np.empty(size, np.uint8))


@kernel(I8, I1)
def ask_for_too_much(size, out):
    share_out(_ask_for_too_much, len(out), (size, out))


@pytest.mark.parametrize("size", [0, 1, 2, 3, 7, 1000])
def test_every_number_of_the_range_comes_once(threads, size):
    seen, begins = np.zeros(size + 1, np.int64), np.zeros(size + 1, np.int64)
    count(size, seen, begins)
    assert seen[:-1].tolist() == [1] * size
    assert seen[-1] == threads
    assert begins.sum() == threads


def test_what_goes_wrong_in_a_part_is_raised(threads):
    with pytest.raises(MemoryError, match="no memory"):
        ask_for_too_much(1 << 60, np.zeros(3, np.int64))
