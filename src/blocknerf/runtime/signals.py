"""Requests to stop."""

import signal
from types import FrameType


class StopSignal:
    """Within `with`, the first Ctrl-C, SIGTERM or SIGHUP is only noted, until stopping is safe.

    The second one interrupts at once. `numbers` are the signals that count; SIGHUP does not if nohup ignores it.
    """

    def __init__(self, numbers: tuple[signal.Signals, ...] = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)):
        self.requested = False
        ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        self._numbers = tuple(number for number in numbers if not (ignored and number == signal.SIGHUP))
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> "StopSignal":
        self._before = {number: signal.signal(number, self._note) for number in self._numbers}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # pyright: ignore[reportArgumentType]

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True


def leave_interrupts_to_parent() -> StopSignal:
    """For a worker: Ctrl-C or the end of a terminal reaches the whole process group, but only the parent reacts, with
    SIGTERM to its workers."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    return StopSignal((signal.SIGTERM,))
