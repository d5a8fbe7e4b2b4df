"""Commands with their docstrings as help is to show them."""

import inspect
import re
from collections.abc import Callable
from typing import Any


def flowing(command: Callable[..., Any]) -> Callable[..., Any]:
    """The command, what it says of each argument on one line: tyro keeps line breaks there, and breaks lines itself."""
    documented = inspect.unwrap(command)  # where shapes are checked, tyro reads the function behind the check
    command.__doc__ = documented.__doc__ = re.sub(r"\n {8}(?=\S)", " ", inspect.cleandoc(command.__doc__ or ""))
    return command


def in_short(command: Callable[..., Any]) -> Callable[[], None]:
    """A command that does nothing and has but the first line of its description."""

    def short() -> None: ...

    short.__doc__ = inspect.cleandoc(command.__doc__ or "").partition("\n")[0]
    return short
