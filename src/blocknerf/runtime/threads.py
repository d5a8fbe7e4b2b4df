"""How many cores a process may use."""

import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def available_cores() -> int:
    """Cores this process may run on; fewer where OMP_NUM_THREADS, the usual way to say so, asks for fewer.

    Of a list, one number for each level of nesting, the first counts; what is no number asks for nothing.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wanted = re.match(r"\s*0*([1-9][0-9]*)\s*(,|$)", os.environ.get("OMP_NUM_THREADS", ""))
    return min(cores, int(wanted[1])) if wanted else cores


def use_threads(count: int, worker: Literal["numba", "torch"] = "numba") -> None:
    """Gives the one that does most of the work `count` threads (1 at least, all cores at most), the other one.

    Two pools that spin while they wait take the cores from each other: on 2 cores a training step of the hash grid with
    2 threads in each took 1.2 to 2.7 times as long as with one in torch, whose part of such a step is small.
    """
    import numba  # here, so that cores are counted before these are there
    import torch

    most = numba.config.NUMBA_NUM_THREADS  # pyright: ignore[reportPrivateImportUsage, reportAttributeAccessIssue]
    count = max(1, min(count, most))
    torch.set_num_threads(count if worker == "torch" else 1)
    numba.set_num_threads(count if worker == "numba" else 1)


def each_on_a_core(call: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """`call` of every item, in their order, as many at a time as numba has threads here, each with one of them.

    That is a fifth faster than one item after the other on all cores: between kernels nobody waits for the others.
    """
    import numba

    count = min(numba.get_num_threads(), len(items))
    if count < 2:
        return [call(item) for item in items]
    with ThreadPoolExecutor(count, initializer=numba.set_num_threads, initargs=(1,)) as pool:
        return list(pool.map(call, items))
