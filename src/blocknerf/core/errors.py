"""The error that a user can fix, and how its message shows the given value."""

import reprlib
from collections.abc import Sequence
from typing import Any

MOST_MESSAGE = 500
"""Maximum characters of a message: a person reads it, and the input may be a file of gigabytes."""
MOST_SHOWN = 80
_GAP = " ... "
_BEGIN = (MOST_MESSAGE - len(_GAP)) * 3 // 5


class UserError(ValueError):
    """Says what was given, what is allowed and what to do. The command line prints it and exits with 2.

    The message becomes one line of at most MOST_MESSAGE characters. A longer one loses its middle, because the problem
    is at its beginning and the remedy at its end.
    """

    def __init__(self, message: str) -> None:
        line = one_line(message)
        if len(line) > MOST_MESSAGE:
            line = line[:_BEGIN] + _GAP + line[_BEGIN + len(_GAP) - MOST_MESSAGE :]
        super().__init__(line)


def listed(names: Sequence[str], most: int) -> str:
    """The first names, and how many more there are, for a message."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def one_line(text: str) -> str:
    """The text without line breaks and control characters; characters without an encoding are escaped."""
    spaced = " ".join(text.split())
    if spaced.isprintable():
        return spaced
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in spaced)


class _Short(reprlib.Repr):
    """Python's notation of a value of any size and depth, cut before it is made."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxdict, self.maxlist, self.maxtuple, self.maxset = 3, 4, 6, 6, 6
        self.maxstring = self.maxother = self.maxlong = MOST_SHOWN

    def repr_int(self, x: int, level: int) -> str:
        return repr(x) if x.bit_length() < 256 else f"a number of {x.bit_length()} bits"


def quote(value: Any) -> str:
    """A value for a message: Python's notation in at most MOST_SHOWN characters of one line."""
    text = one_line(_Short().repr(value))
    return text if len(text) <= MOST_SHOWN else text[: MOST_SHOWN - len(_GAP)] + _GAP.rstrip()
