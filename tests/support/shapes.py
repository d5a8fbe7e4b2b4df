"""Shapes and types of arguments and results, checked at every call."""

import inspect
from collections.abc import Callable
from dataclasses import is_dataclass
from functools import wraps
from typing import Any

import jaxtyping
from beartype import BeartypeConf, beartype
from jaxtyping import TypeCheckError, install_import_hook, jaxtyped

_check = beartype(conf=BeartypeConf(violation_type=TypeCheckError))


def check_shapes(modules: list[str]) -> None:
    """Checks functions of `modules` that are imported from now on, and the fields of their dataclasses.

    `jaxtyped` itself binds arguments to their names and checks them twice: a third of the time of all tests.
    """
    jaxtyping.jaxtyped = _checked  # what the hook writes above every function and class
    install_import_hook(modules, "beartype.beartype")


def _checked(typechecker: Any) -> Callable[[Any], Any]:
    def decorate(function: Any) -> Any:
        if inspect.isclass(function):
            if is_dataclass(function) and not hasattr(function.__init__, "__wrapped__"):
                function.__init__ = decorate(function.__init__)
            return function
        if inspect.isgeneratorfunction(function):  # what it yields comes later, outside of its context
            return jaxtyped(function, typechecker=typechecker)
        if unknown := {name: Any for name, hint in function.__annotations__.items() if not _is_known(hint, function)}:
            function.__annotations__ = function.__annotations__ | unknown
        checked = _check(function)

        @wraps(function)
        def in_context(*args: Any, **kwargs: Any) -> Any:
            with jaxtyped("context"):  # in which a name of an axis is one length
                return checked(*args, **kwargs)

        return in_context

    return decorate


def _is_known(hint: Any, function: Any) -> bool:
    """Names in quotes may be imported for pyright alone."""
    try:
        return not isinstance(hint, str) or bool(eval(hint, function.__globals__))
    except NameError:
        return False
