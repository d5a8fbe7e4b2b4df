"""Being asked to stop."""

import signal
from types import FrameType


class StopSignal:
    """Within `with`: the first Ctrl-C or SIGTERM is only noted, for the next moment at which stopping is safe.

    The second one interrupts at once. `numbers` are the signals that count.
    """

    def __init__(self, numbers: tuple[signal.Signals, ...] = (signal.SIGINT, signal.SIGTERM)):
        self.requested = False
        self._numbers = numbers
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
    """For a worker: Ctrl-C reaches the whole process group, but only the parent answers it, with SIGTERM."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return StopSignal((signal.SIGTERM,))
