"""How many cores a process may use."""

import os

import numba
import torch


def available_cores() -> int:
    """Cores this process may run on; fewer where OMP_NUM_THREADS, the usual way to say so, asks for fewer."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, int(os.environ.get("OMP_NUM_THREADS", cores)))


def use_threads(count: int) -> None:
    """Bounds torch's and numba's threads in this process; 1 at least, all cores at most."""
    count = max(1, min(count, numba.config.NUMBA_NUM_THREADS))  # pyright: ignore[reportAttributeAccessIssue]
    torch.set_num_threads(count)
    numba.set_num_threads(count)
