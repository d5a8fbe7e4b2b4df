"""`blocknerf`: runs a command, and ends in a sentence where a user can mend what went wrong.

What takes time or memory to import is imported in functions, so that Ctrl-C and a lack of memory end in a sentence then
as well.
"""

import _thread
import os
import signal
import sys
from collections.abc import Callable

STOPPED = "Stopped. Run the same command again to go on; `train` wants --resume with it."
_ASKED_TO_STOP = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main(arguments: list[str] | None = None) -> None:
    if arguments is None:
        as_program(lambda: _parse(sys.argv[1:]))
    else:
        run(lambda: _parse(arguments))


def as_program(command: Callable[[], None]) -> None:
    """`run` in a process that does nothing else: once it is over, Ctrl-C only ends the process."""
    sys.unraisablehook = _interrupt_again
    try:
        run(command)
    finally:
        for number in _ASKED_TO_STOP:
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, signal.SIG_DFL)


def run(command: Callable[[], None]) -> None:
    """Runs a command; what a user can mend becomes one sentence and exit code 2; Ctrl-C, SIGTERM, SIGHUP become 130."""
    asked_to_stop = is_over = False

    def interrupt(number: int, frame: object) -> None:
        nonlocal asked_to_stop
        if not is_over:
            asked_to_stop = True
            raise KeyboardInterrupt

    try:
        for number in _ASKED_TO_STOP:
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, interrupt)
        from blocknerf.cli.streams import use_streams

        use_streams()
        from blocknerf.cli import ending  # noqa: F401 (now, while there is memory for it)
        from blocknerf.core.logging import start_logging
        from blocknerf.runtime.cores import settle_threads

        start_logging()
        settle_threads()
        try:
            command()
        finally:
            sys.stdout.flush()
    except BaseException as error:
        is_over = True
        if asked_to_stop or isinstance(error, KeyboardInterrupt):  # an import that is interrupted may raise anything
            _say(STOPPED)
            sys.exit(130)
        from blocknerf.cli.ending import what_to_do

        sentence = what_to_do(error)
        if sentence is None:
            raise
        _say(f"{_error_mark()} {sentence}")
        sys.exit(2)


def _parse(arguments: list[str]) -> None:
    from blocknerf.cli.commands import parse

    parse(arguments)


def _error_mark() -> str:
    return "\x1b[1;31mblocknerf:\x1b[0m" if sys.stderr.isatty() and not os.environ.get("NO_COLOR") else "blocknerf:"


def _say(line: str) -> None:
    """Without rich, which may be what there was no memory for."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def _interrupt_again(unraisable) -> None:
    """Python drops what is raised while an object is deleted: Ctrl-C is heard a moment later instead."""
    if isinstance(unraisable.exc_value, KeyboardInterrupt):
        _thread.interrupt_main()
    else:
        sys.__unraisablehook__(unraisable)
