"""Commands with their docstrings in the form that help shows."""

import inspect
import re
from collections.abc import Callable
from typing import Any


def flowing(command: Callable[..., Any]) -> Callable[..., Any]:
    """The command with the description of each argument on one line: tyro wraps lines itself, but keeps line breaks."""
    documented = inspect.unwrap(command)  # where shapes are checked, tyro reads the function behind the check
    command.__doc__ = documented.__doc__ = re.sub(r"\n {8}(?=\S)", " ", inspect.cleandoc(command.__doc__ or ""))
    return command


def in_short(command: Callable[..., Any]) -> Callable[[], None]:
    """A command that does nothing and has only the first line of the description."""

    def short() -> None: ...

    short.__doc__ = inspect.cleandoc(command.__doc__ or "").partition("\n")[0]
    return short
