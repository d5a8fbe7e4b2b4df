"""How much memory the process holds, and what running out of it looks like."""

import os
from pathlib import Path

import torch

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_CONTAINER = Path("/sys/fs/cgroup")
_SAID_BY_ALLOCATOR = "can't allocate memory"


def held_gb(device_type: str = "cpu") -> float:
    """Resident memory of this process, or what its tensors take on all CUDA devices, in GB (1e9 bytes)."""
    if device_type == "cuda":
        return sum(torch.cuda.memory_allocated(number) for number in range(torch.cuda.device_count())) / 1e9
    resident_pages = int(Path("/proc/self/statm").read_text().split()[1])
    return resident_pages * _PAGE_BYTES / 1e9


def free_gb() -> float:
    """Memory that this machine could still give, in GB; what a container may take, where that is less."""
    told = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    free = int(told["MemAvailable"].split()[0]) * 1024
    limit, used = (_CONTAINER / name for name in ("memory.max", "memory.current"))
    if limit.exists() and (most := limit.read_text().strip()) != "max":
        free = min(free, int(most) - int(used.read_text()))
    return max(free, 0) / 1e9


def is_out_of_memory(error: BaseException) -> bool:
    """Torch says it of a processor with a RuntimeError, which says many other things too."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and _SAID_BY_ALLOCATOR in str(error)
