"""Signal handlers as the system sees them, including those of C libraries, which Python's `signal` does not see."""

import ctypes
import signal
from collections.abc import Iterator
from contextlib import contextmanager

_ROOM_BYTES = 512  # struct sigaction takes 152 bytes on Linux, fewer elsewhere


@contextmanager
def kept_handlers() -> Iterator[None]:
    """After this context every signal has the handler that it had before, whatever was imported or called.

    SIGTERM is deferred until then, so that it reaches the right handler.
    """
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    before = {number: _handler(number) for number in map(int, signal.valid_signals())}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:
                _sigaction(number, handler, None)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _sigaction(number: int, new: ctypes.Array | None, old: ctypes.Array | None) -> bool:
    return ctypes.CDLL(None).sigaction(number, new, old) == 0


def _handler(number: int) -> ctypes.Array | None:
    """struct sigaction as bytes; None for a signal that the system keeps to itself."""
    handler = ctypes.create_string_buffer(_ROOM_BYTES)
    return handler if _sigaction(number, None, handler) else None
