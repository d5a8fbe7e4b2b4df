"""How many cores a process may use."""

import os
import re

import numba
import torch


def available_cores() -> int:
    """Cores this process may run on; fewer where OMP_NUM_THREADS, the usual way to say so, asks for fewer.

    Of a list, one number for each level of nesting, the first counts; what is no number asks for nothing.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wanted = re.match(r"\s*0*([1-9][0-9]*)\s*(,|$)", os.environ.get("OMP_NUM_THREADS", ""))
    return min(cores, int(wanted[1])) if wanted else cores


def use_threads(count: int) -> None:
    """Gives numba's kernels `count` threads (1 at least, all cores at most) and torch one.

    Two pools that spin while they wait take the cores from each other: on 2 cores a training step with 2 threads in
    each took 1.2 to 2.7 times as long as with one in torch, whose part of a step is small.
    """
    torch.set_num_threads(1)
    most = numba.config.NUMBA_NUM_THREADS  # pyright: ignore[reportPrivateImportUsage, reportAttributeAccessIssue]
    numba.set_num_threads(max(1, min(count, most)))
