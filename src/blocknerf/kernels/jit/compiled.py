"""The decorator of every compiled function, and the stamp that says whether cached code is valid."""

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
from blocknerf.kernels.jit.numba_internals import IS_KNOWN, call_before_compiling, is_cached, set_source_stamp
from blocknerf.runtime.memory import address_space_gb, require_addresses

_ROOM_TO_LOAD, _ROOM_TO_COMPILE = 48 << 20, 256 << 20
"""Bytes of address space for one function, including what else starts meanwhile."""
_NOWHERE = "no locator available"  # what numba says
PACKAGE = Path(__file__).parents[2]
_FLAGS: Any = numba.config  # pyright: ignore[reportPrivateImportUsage]
CHECKS_INDICES = bool(_FLAGS.BOUNDSCHECK)
"""Whether NUMBA_BOUNDSCHECK is set; slow, for tests."""


def compiled(function: Any = None, *, kept: bool = True, **options: Any) -> Any:
    """numba's `njit`, with its `options`. If `kept`, the code is cached on the disk for the next process.

    Functions that are only compiled into their callers are not kept; the callers are. With an unknown version of numba,
    nothing is kept.
    """
    if function is None:
        return lambda decorated: compiled(decorated, kept=kept, **options)
    if not (kept and IS_KNOWN):
        return njit(**options)(function)
    dispatcher = _with_cache(function, options)
    set_source_stamp(dispatcher, _STAMP)
    call_before_compiling(dispatcher, lambda: _require_room(dispatcher))
    return dispatcher


def is_compiled(dispatcher: Any) -> bool:
    """Whether the present version of a kept function is on the disk."""
    return is_cached(dispatcher)


def stamp_of(package: Path) -> str:
    """Hash of everything on which compiled code depends: all compiled sources, their imports, the compiler and flags.

    numba only checks a function's own file, although code and constants of others are compiled into it. The type of
    processor is in numba's index.
    """
    compiled = sorted([*package.rglob("*numba.py"), *(package / "kernels" / "jit").glob("*.py")])
    imported = re.findall(r"^from blocknerf\.([\w.]+) import", "".join(map(_text, compiled)), re.MULTILINE)
    constants = {package / f"{module.replace('.', '/')}.py" for module in imported} - set(compiled)
    sources = "".join(map(_text, [*compiled, *sorted(constants)]))
    made_by = (numba.__version__, llvmlite.__version__, _FLAGS.BOUNDSCHECK, _FLAGS.OPT, _FLAGS.DISABLE_INTEL_SVML)
    return hashlib.sha256(f"{made_by}{sources}".encode()).hexdigest()


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


_STAMP = stamp_of(PACKAGE)


def _require_room(dispatcher: Any) -> None:
    """Raises MemoryError if there is no memory to compile, or to load cached code; LLVM would end the process."""
    if address_space_gb() < math.inf:
        require_addresses(_ROOM_TO_LOAD if is_compiled(dispatcher) else _ROOM_TO_COMPILE)


def _with_cache(function: Any, options: dict[str, Any]) -> Any:
    """numba caches code next to its source or in the home folder; if neither can be written, our folder is used, also
    in its workers."""
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
            f"Compiled code can be kept neither next to the program, nor at home, nor in {folder}. Set "
            f"{CACHE_VARIABLE} to a writable folder."
        ) from error
