"""The decorator of every compiled function, and the one stamp that says for how long kept code is valid."""

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
"""Bytes of addresses for one function, with what else begins meanwhile."""
_NOWHERE = "no locator available"  # what numba says
PACKAGE = Path(__file__).parents[2]
_FLAGS: Any = numba.config  # pyright: ignore[reportPrivateImportUsage]
CHECKS_INDICES = bool(_FLAGS.BOUNDSCHECK)
"""Whether NUMBA_BOUNDSCHECK asks for it; slow, for tests."""


def compiled(function: Any = None, *, kept: bool = True, **options: Any) -> Any:
    """numba's `njit`, with its `options`; the code is `kept` on the disk for the next process.

    Not kept is what is compiled into its callers alone: they keep it. With a numba that is not known, nothing is.
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
    """Whether a kept function, as it stands here, is on the disk."""
    return is_cached(dispatcher)


def stamp_of(package: Path) -> str:
    """What compiled code is valid for: all that is compiled and what it imports, who compiles it, and how.

    numba looks at a function's own file alone, though code and constants of others are built into it. What kind of
    processor it is for stands in numba's index.
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
    """Memory to compile, or to load what is kept. LLVM ends the process where it finds none."""
    if address_space_gb() < math.inf:
        require_addresses(_ROOM_TO_LOAD if is_compiled(dispatcher) else _ROOM_TO_COMPILE)


def _with_cache(function: Any, options: dict[str, Any]) -> Any:
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
