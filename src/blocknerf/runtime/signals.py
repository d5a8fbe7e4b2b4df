"""Being asked to stop."""

import signal
from types import FrameType


def interrupt_on_terminate() -> None:
    """Makes SIGTERM, as schedulers and parents send it, the same as Ctrl-C: a KeyboardInterrupt in the main thread."""
    signal.signal(signal.SIGTERM, _interrupt)


def leave_interrupts_to_parent() -> None:
    """In a worker: Ctrl-C reaches the whole process group, but only the parent may answer it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    interrupt_on_terminate()


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
