"""Sharing out among threads: every part of a range once, whatever its size, and whoever else calls."""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from blocknerf.kernels.jit.parallel_for import I1, I8, PIECES, kernel, num_threads, parallel_for, worker_body
from blocknerf.runtime import pool


@worker_body
def _count(start, stop, seen, begins):
    begins[start] += 1
    for i in range(start, stop):
        seen[i] += 1


@kernel(I8, I1, I1)
def count(size, seen, begins):
    parallel_for(_count, size, (seen, begins))
    seen[-1] = num_threads()


@worker_body
def _ask_for_too_much(start, stop, size, out):
    for i in range(start, stop):
        out[i] = len(np.empty(size, np.uint8))


@kernel(I8, I1)
def ask_for_too_much(size, out):
    parallel_for(_ask_for_too_much, len(out), (size, out))


@pytest.mark.parametrize("size", [0, 1, 2, 3, 7, 1000])
def test_every_number_of_the_range_comes_once(threads, size):
    seen, begins = np.zeros(size + 1, np.int64), np.zeros(size + 1, np.int64)
    count(size, seen, begins)
    assert seen[:-1].tolist() == [1] * size
    assert seen[-1] == threads
    assert begins.sum() == min(size, 1 if threads == 1 else threads * PIECES)


@worker_body
def _note_sizes(start, stop, size, sizes):
    sizes[start] += stop - start


@kernel(I8, I1)
def note_sizes(size, sizes):
    parallel_for(_note_sizes, size, (size, sizes))


def test_pieces_grow_smaller_so_that_all_end_together(threads):
    """The last is less than a hundredth of the work: so little does a thread wait for that came late."""
    sizes = np.zeros(10_001, np.int64)
    note_sizes(10_000, sizes)
    sizes = sizes[sizes > 0]
    assert sizes.sum() == 10_000
    assert threads == 1 or (np.diff(sizes) <= 1).all()
    assert threads == 1 or sizes[-1] < 100 < sizes[0] < 2 * 10_000 / (threads * PIECES)


def test_what_goes_wrong_in_a_part_is_raised(threads):
    with pytest.raises(MemoryError, match="no memory"):
        ask_for_too_much(1 << 60, np.zeros(3, np.int64))


def test_several_callers_at_once_each_get_all_of_theirs(threads):
    """Who finds the pool taken works alone; nobody's pieces are lost, and nobody waits for ever."""

    def call(seed):
        sizes = np.random.default_rng(seed).integers(0, 60, 300)
        for size in sizes.tolist():
            seen = np.zeros(size + 1, np.int64)
            count(size, seen, np.zeros(size + 1, np.int64))
            assert seen[:-1].tolist() == [1] * size

    with ThreadPoolExecutor(4) as callers:
        assert list(callers.map(call, range(8))) == [None] * 8
    assert pool.num_threads() == threads


def test_where_the_pool_is_taken_a_kernel_stays_in_its_thread(threads):
    begins = np.zeros(101, np.int64)
    with pool.taken() as is_ours, pool.taken() as is_ours_too:
        assert (is_ours, is_ours_too, pool.num_threads()) == (True, False, 1)
        count(100, np.zeros(101, np.int64), begins)
    assert begins.sum() == min(100, 1 if threads == 1 else threads * PIECES)
    assert pool.num_threads() == threads


@worker_body
def _wait(start, stop, entered, leave):
    for i in range(start, stop):
        entered[i] = 1
        while leave[i] == 0:
            leave[-1] += 1  # so that the memory is looked at again


@kernel(I1, I1)
def wait(entered, leave):
    parallel_for(_wait, len(entered), (entered, leave))


def test_a_signal_while_others_are_waited_for_loses_nothing():
    """The main thread sleeps until the last piece is done, and a signal wakes it before."""
    before, heard = pool.num_threads(), []
    pool.set_num_threads(2)
    usual = signal.signal(signal.SIGUSR1, lambda *_: heard.append(1))
    entered, leave = np.zeros(2, np.int64), np.zeros(3, np.int64)

    def release():
        while not entered.all():
            time.sleep(0.001)
        for number in range(20):
            os.kill(os.getpid(), signal.SIGUSR1)
            time.sleep(0.002)
            leave[number % 2 if number > 10 else 2] += 1

    helper = threading.Thread(target=release)
    helper.start()
    wait(entered, leave)
    helper.join()
    pool.set_num_threads(before)
    signal.signal(signal.SIGUSR1, usual)
    assert heard


LIFE = """
import os, sys
from concurrent.futures import ThreadPoolExecutor
import numpy as np
from blocknerf.kernels.histograms.numba import distortion
from blocknerf.runtime.threads import each_on_a_core, use_threads

def losses(seed=0):
    edges = np.random.default_rng(seed).random((500, 5), np.float32).cumsum(1)
    weights, out = np.ones((500, 4), np.float32), np.zeros(500, np.float32)
    distortion(edges, weights, out, weights.copy())
    return out.tobytes()

use_threads(3)
right = [losses(seed) for seed in range(20)]
assert each_on_a_core(losses, range(20)) == right
with ThreadPoolExecutor(5) as callers:
    assert list(callers.map(losses, range(20))) == right
child = os.fork()
if child == 0:
    os._exit([losses(seed) for seed in range(20)] != right)
assert os.waitpid(child, 0)[1] == 0
layers = {f"numba.np.ufunc.{name}" for name in ("tbbpool", "omppool", "workqueue")}
assert not layers & {*sys.modules}
"""


@pytest.mark.parametrize("layer", ["tbb", "omp", "workqueue", "default", "nonsense"])
def test_a_program_ends_whatever_threading_layer_numba_is_told(layer):
    """numba's own are never started, so that there is nothing of theirs to hang in."""
    environment = os.environ | {"NUMBA_THREADING_LAYER": layer}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LIFE],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
