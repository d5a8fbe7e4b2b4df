"""Standard output and error of the program: what happens if nobody reads them, or they cannot be written."""

import io
import os
import signal
import sys
from typing import TextIO

OUTPUT, MESSAGES = 1, 2


class _Output(io.FileIO):
    """The result of a command: when its reader closes the pipe, the program ends as `cat` does.

    Any other failure is an OSError that names standard output.
    """

    has_failed = False

    def write(self, content) -> int | None:
        if self.has_failed:
            return len(content)  # it was said once
        try:
            return super().write(content)
        except BrokenPipeError:
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGPIPE)
            raise
        except OSError as error:
            self.has_failed = True
            raise OSError(error.errno, error.strerror, "Standard output") from error


class _Messages(io.FileIO):
    """Messages: if they cannot be written, they are dropped, and the work continues."""

    def write(self, content) -> int:
        try:
            return super().write(content) or len(content)
        except OSError:
            return len(content)


def use_streams() -> None:
    """Replaces `sys.stdout` and `sys.stderr` by these, unless they were replaced before.

    A descriptor that was closed before the start is opened to /dev/null, so that no file gets its number.
    """
    for _ in range(OUTPUT + MESSAGES):
        opened = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
        if opened > MESSAGES:
            os.close(opened)
            break
    if sys.stdout is sys.__stdout__:
        sys.stdout = _text(_Output(OUTPUT, "w", closefd=False), sys.stdout)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _text(_Messages(MESSAGES, "w", closefd=False), sys.stderr)


def _text(file: io.FileIO, before: TextIO | None) -> io.TextIOWrapper:
    encoding = "utf-8" if before is None else before.encoding
    by_line = file.isatty() or file.fileno() == MESSAGES
    return io.TextIOWrapper(io.BufferedWriter(file), encoding, "backslashreplace", line_buffering=by_line)
