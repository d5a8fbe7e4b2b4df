"""How many cores a process may use, and who uses them."""

import math
import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, TypeVar

from blocknerf.core.logging import log
from blocknerf.runtime.control_groups import core_quotas

ASKED = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")

Item = TypeVar("Item")
Result = TypeVar("Result")


def available_cores(system: Path = Path("/")) -> int:
    """Cores that this process may use: those it may run on, limited by a container's quota, OMP_NUM_THREADS and
    NUMBA_NUM_THREADS."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wanted = [count for name in ASKED if (count := _asked_for(os.environ.get(name, ""))) is not None]
    return max(1, min([cores, *wanted, *map(math.ceil, core_quotas(system))]))


def settle_threads() -> None:
    """Call it before torch and numba are imported: ignores invalid thread counts and prevents spinning.

    torch's OpenMP threads would take cores from other programs while they wait. numba cannot be imported with a count
    of 0.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    for name in ASKED:
        value = os.environ.get(name, "")
        if value and _asked_for(value) is None:
            log.warning("%s=%.40s is ignored: give a number of threads from 1 up.", name, value)
            del os.environ[name]


def _asked_for(value: str) -> int | None:
    """In a list (one number per level of nesting) the first counts; None if it is not a number."""
    number = re.match(r"\s*0*([1-9][0-9]{0,8})\s*(,|$)", value)
    return int(number[1]) if number else None


def use_threads(count: int, worker: Literal["numba", "torch"] = "numba") -> None:
    """Gives `count` threads (at least 1) to the library that does most of the work, and 1 to the other.

    Two pools take the cores from each other: on 2 cores a training step of the hash grid with 2 threads in each took
    1.2 to 2.7 times as long as with one in torch, whose part of such a step is small.
    """
    import torch

    from blocknerf.runtime.pool import set_num_threads  # here, so that cores are counted before these are there

    count = max(1, count)
    torch.set_num_threads(count if worker == "torch" else 1)
    set_num_threads(count if worker == "numba" else 1)


def each_on_a_core(call: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """`call` of every item, in order; as many at a time as kernels have threads, each with one thread.

    That is a fifth faster than one item after the other on all cores, because there is no waiting between kernels.
    """
    from blocknerf.runtime.pool import num_threads, taken

    count = min(num_threads(), len(items))
    if count < 2:
        return [call(item) for item in items]
    with taken(), ThreadPoolExecutor(count) as threads:
        return list(threads.map(call, items))
