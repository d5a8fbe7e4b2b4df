"""How many cores a process may use."""

import math
import os
import re
from pathlib import Path

from blocknerf.core.logging import log
from blocknerf.runtime.control_groups import core_quotas

ASKED = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")


def available_cores(system: Path = Path("/")) -> int:
    """Cores this process may use: those it may run on, and no more than what a container's quota of time amounts to.

    Fewer where OMP_NUM_THREADS, the usual way to say so, or NUMBA_NUM_THREADS asks for fewer.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wanted = [count for name in ASKED if (count := _asked_for(os.environ.get(name, ""))) is not None]
    return max(1, min([cores, *wanted, *map(math.ceil, core_quotas(system))]))


def settle_threads() -> None:
    """Before torch and numba are imported: what is no number of threads asks for nothing, and nobody spins.

    OpenMP's threads, torch's, would take cores from other programs while they wait. numba does not import with 0.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    for name in ASKED:
        value = os.environ.get(name, "")
        if value and _asked_for(value) is None:
            log.warning("%s=%.40s is passed over: give a number of threads from 1 up.", name, value)
            del os.environ[name]


def _asked_for(value: str) -> int | None:
    """Of a list, one number for each level of nesting, the first counts; what is no number asks for nothing."""
    number = re.match(r"\s*0*([1-9][0-9]{0,8})\s*(,|$)", value)
    return int(number[1]) if number else None
