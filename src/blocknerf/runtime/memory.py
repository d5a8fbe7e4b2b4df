"""How much memory the process holds, and what running out of it looks like."""

import errno
import math
import os
import resource
from pathlib import Path

from blocknerf.runtime.control_groups import free_bytes

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_ALLOCATOR_MESSAGES = (
    "can't allocate memory",  # torch, of a processor
    "not enough memory",  # torch, of a processor
    "out of memory",  # torch, of CUDA
    "cannot allocate memory",  # a library that is loaded
    "failed to map segment",  # a library that is loaded
    "bad_alloc",  # C++
)


def held_gb(device_type: str = "cpu") -> float:
    """Resident memory of this process, or what its tensors take on all CUDA devices, in GB (1e9 bytes)."""
    if device_type == "cuda":
        import torch  # here, so that nothing else of this page waits for it

        return sum(torch.cuda.memory_allocated(number) for number in range(torch.cuda.device_count())) / 1e9
    resident_pages = int(Path("/proc/self/statm").read_text().split()[1])
    return resident_pages * _PAGE_BYTES / 1e9


def free_gb(system: Path = Path("/")) -> float:
    """Free memory of this machine, or of the container if that is less, in GB."""
    meminfo = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return min([int(meminfo["MemAvailable"].split()[0]) * 1024, *free_bytes(system)]) / 1e9


def address_space_gb() -> float:
    """The limit of `ulimit -v` for this process, in GB; infinity without a limit."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return math.inf if limit == resource.RLIM_INFINITY else limit / 1e9


def require_addresses(num_bytes: int) -> None:
    """Raises MemoryError if `ulimit -v` leaves fewer. Call it before libraries that would end the process."""
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * _PAGE_BYTES
    left = 1e9 * address_space_gb() - taken
    if left < num_bytes:
        raise MemoryError(f"{left:.0f} bytes of addresses are left, and {num_bytes} are needed")


def is_out_of_memory(error: BaseException) -> bool:
    """torch raises a RuntimeError, as for many other problems; a library without room raises ImportError or OSError."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    message = str(error).lower()
    return isinstance(error, RuntimeError | ImportError | OSError) and any(
        mark in message for mark in _ALLOCATOR_MESSAGES
    )
