"""Packages of extras (`pip install 'blocknerf[export]'`): every module can be imported without them.

A module that needs one has `rasterio = Extra("rasterio", "export", "An orthophoto")` at its top. `rasterio` then acts
as that package, which is imported on first use.
"""

import importlib
from typing import Any

from blocknerf.core.errors import UserError


class Extra:
    """A module of a package from the extra `extra`; `purpose` begins the error message if it is missing."""

    def __init__(self, module: str, extra: str, purpose: str) -> None:
        self._module, self._extra, self._purpose = module, extra, purpose

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # asked by Python of every object
            raise AttributeError(name)
        return getattr(self.require(), name)

    def require(self) -> Any:
        """The module. Raises UserError with the install command; call it before long work begins."""
        try:
            return importlib.import_module(self._module)
        except ImportError as error:
            package = self._module.partition(".")[0]
            is_missing = f"{self._module}.".startswith(f"{error.name}.")
            why = "is not installed" if is_missing else f"cannot be imported ({error})"
            raise UserError(
                f"{self._purpose} needs {package}, which {why}; run: pip install 'blocknerf[{self._extra}]'."
            ) from error
