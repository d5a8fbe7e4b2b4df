"""Packages that only exports need, imported when they are."""

import importlib
from typing import Any

from blocknerf.core.errors import UserError


def needed(module: str, purpose: str) -> Any:
    """That module. Raises UserError with the command that installs it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"{purpose} needs {module.partition('.')[0]}, which is not installed; run: pip install 'blocknerf[export]'"
        ) from error
