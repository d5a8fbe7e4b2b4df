"""The one door into numba's cache: compiled code is kept for the next process, and for as long as it is valid."""

import hashlib
import math
import os
import re
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba import njit

from blocknerf.core.caches import CACHE_VARIABLE, cache_folder
from blocknerf.core.errors import UserError
from blocknerf.runtime.memory import address_space_gb, require_addresses

_ROOM_TO_LOAD, _ROOM_TO_COMPILE = 48 << 20, 256 << 20
"""Bytes of addresses for one function, with what else begins meanwhile."""
_NOWHERE = "no locator available"  # what numba says
PACKAGE = Path(__file__).parents[1]
_FLAGS: Any = numba.config  # pyright: ignore[reportPrivateImportUsage]
CHECKS_INDICES = bool(_FLAGS.BOUNDSCHECK)
"""Whether NUMBA_BOUNDSCHECK asks for it; slow, for tests."""


def stamp_of(package: Path) -> str:
    """What compiled code is valid for: all that is compiled and what it imports, who compiles it, and how.

    numba looks at a function's own file alone, though code and constants of others are built into it. What kind of
    processor it is for stands in numba's index.
    """
    compiled = sorted(package.rglob("*_numba.py"))
    imported = re.findall(r"^from blocknerf\.([\w.]+) import", "".join(map(_text, compiled)), re.MULTILINE)
    constants = {package / f"{module.replace('.', '/')}.py" for module in imported} - set(compiled)
    sources = "".join(map(_text, [*compiled, *sorted(constants)]))
    made_by = (numba.__version__, llvmlite.__version__, _FLAGS.BOUNDSCHECK, _FLAGS.OPT, _FLAGS.DISABLE_INTEL_SVML)
    return hashlib.sha256(f"{made_by}{sources}".encode()).hexdigest()


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


_STAMP = stamp_of(PACKAGE)


def cached(function: Any = None, **options: Any) -> Any:
    """`njit`, with these options, whose code is kept."""
    if function is None:
        return lambda decorated: cached(decorated, **options)
    dispatcher: Any = _kept(function, options)
    dispatcher._cache._cache_file._source_stamp = _STAMP
    dispatcher.compile = _with_room(dispatcher)
    return dispatcher


def _with_room(dispatcher: Any) -> Any:
    """Compiles, or takes from the cache, what there is memory for. LLVM ends the process where it finds none."""
    compile_or_load = dispatcher.compile

    def compile_with_room(signature: Any) -> Any:
        if address_space_gb() < math.inf:
            require_addresses(_ROOM_TO_LOAD if is_compiled(dispatcher) else _ROOM_TO_COMPILE)
        return compile_or_load(signature)

    return compile_with_room


def _kept(function: Any, options: dict[str, Any]) -> Any:
    """numba keeps code beside its source or at home; where neither can be written, in our own folder, as its workers
    do."""
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError as error:
        if _NOWHERE not in str(error):
            raise
    folder = cache_folder() / "numba"
    _FLAGS.CACHE_DIR = os.environ["NUMBA_CACHE_DIR"] = str(folder)
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError as error:
        raise UserError(
            f"Compiled code can be kept neither beside the program, nor at home, nor in {folder}. Set {CACHE_VARIABLE} "
            "to a folder that can be written to."
        ) from error


def is_compiled(dispatcher: Any) -> bool:
    """Whether numba's cache has the function as it stands here."""
    return bool(dispatcher._cache._cache_file._load_index())
