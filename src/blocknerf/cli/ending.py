"""What is said where a command cannot begin or go on, for reasons that a user can mend."""

from blocknerf.core.errors import UserError
from blocknerf.core.system_errors import reason, remedy
from blocknerf.runtime.cores import available_cores
from blocknerf.runtime.memory import address_space_gb, is_out_of_memory

OUT_OF_MEMORY = (
    "There is not enough memory. End other programs, raise the limit (ulimit -v, or the container's), or ask for less: "
    "fewer blocks at once (--jobs 1), smaller images (dataset.image_downsample), a smaller dataset.batch_size."
)


def what_to_do(error: BaseException) -> str | None:
    """One sentence; None for the end of the program, and for a defect of it."""
    if isinstance(error, UserError):
        return str(error)
    if is_out_of_memory(error):
        return OUT_OF_MEMORY
    if isinstance(error, OSError):
        return f"{error.filename or 'A file'}: {reason(error)}; {remedy(error)}."
    return None


def require_room(is_small: bool) -> None:
    """Raises UserError where `ulimit -v` leaves less than libraries take when they are loaded.

    Some of them do not fail there but end the process: measured were 0.15 GB for help and 1.1 GB for training on two
    cores, and something for the threads of each.
    """
    limit_gb, cores = address_space_gb(), available_cores()
    needed_gb = (0.15 + 0.05 * cores) if is_small else (1.2 + 0.1 * cores)
    if limit_gb < needed_gb:
        raise UserError(
            f"This process may take {limit_gb:.1f} GB of addresses (ulimit -v), and its libraries alone take about "
            f"{needed_gb:.1f}. Raise that limit (ulimit -v unlimited), or use fewer cores (OMP_NUM_THREADS=1)."
        )
