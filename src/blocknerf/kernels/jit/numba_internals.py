"""What is used of numba and llvmlite beyond their documented interface, and with which versions of numba.

Private names may change with every minor version. With a version that is not known, nothing of this file is used:
numba's documented interface does the same more slowly, in one thread (`plain_loops.py`).
"""

import re
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import numba
from llvmlite import binding as llvm
from llvmlite import ir
from numba import types

from blocknerf.core.logging import log

FIRST_KNOWN, FIRST_UNKNOWN = (0, 61), (0, 69)
"""The bounds of numba in pyproject.toml, as (major, minor)."""
IS_KNOWN = FIRST_KNOWN <= tuple(map(int, re.findall(r"\d+", numba.__version__)[:2])) < FIRST_UNKNOWN

cgutils: Any = import_module("numba.core.cgutils") if IS_KNOWN else None

if not IS_KNOWN:
    log.warning(
        "Kernels on a processor are compiled at every start and run in one thread, several times slower: they are not "
        "written for numba %s. Run pip install 'numba>=%d.%d,<%d.%d'.",
        numba.__version__,
        *FIRST_KNOWN,
        *FIRST_UNKNOWN,
    )


def cpu_features() -> str:
    """Of the processor for which numba compiles, as in "+avx2,-avx512vl"."""
    settings: Any = numba.config  # pyright: ignore[reportPrivateImportUsage]
    return settings.CPU_FEATURES or llvm.get_host_cpu_features().flatten()


def set_source_stamp(dispatcher: Any, stamp: str) -> None:
    """What a cached function is valid for, in place of the date and size of its own file."""
    dispatcher._cache._cache_file._source_stamp = stamp


def is_cached(dispatcher: Any) -> bool:
    """Whether the cache has the function with its source stamp."""
    return bool(dispatcher._cache._cache_file._load_index())


def call_before_compiling(dispatcher: Any, call: Callable[[], None]) -> None:
    """`call` before each time that the function is compiled, or loaded from the cache."""
    compile_or_load = dispatcher.compile

    def compile_after_call(signature: Any) -> Any:
        call()
        return compile_or_load(signature)

    dispatcher.compile = compile_after_call


def compile_into_caller(
    typing_context: Any, context: Any, function: Any, arguments: Sequence[Any], boundscheck: bool
) -> Any:
    """Code of a jitted function that returns nothing, in the library of the function that is being compiled.

    Both are then optimised together and once. Without what Python would need to call it; no two arrays overlap.
    """
    flags = import_module("numba.core.compiler").Flags()
    flags.nrt, flags.error_model, flags.boundscheck, flags.noalias = True, "numpy", boundscheck, True
    flags.fastmath = import_module("numba.core.cpu_options").FastMathOptions(True)
    flags.no_compile = flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
    compile_internal = import_module("numba.core.compiler").compile_internal
    library, source = context.active_code_library, function.dispatcher.py_func
    return compile_internal(typing_context, context, library, source, tuple(arguments), types.none, flags, {})


def call_compiled(context: Any, builder: ir.IRBuilder, compiled: Any, arguments: Sequence[Any]) -> Any:
    """Calls what `compile_into_caller` gave; the status says whether it raised."""
    return context.call_internal_no_propagate(builder, compiled.fndesc, compiled.signature, arguments)[0]


def raise_error(context: Any, builder: ir.IRBuilder, error: type[Exception], message: str) -> None:
    """Raises it from the function that is being compiled."""
    context.call_conv.return_user_exc(builder, error, (message,))


def array_struct(context: Any, builder: ir.IRBuilder, array_type: Any, value: Any) -> Any:
    """`data`, `shape` and `strides` of an array."""
    return context.make_array(array_type)(context, builder, value)


def frozen(builder: ir.IRBuilder, value: Any) -> Any:
    """The value, which is some number even where it came from one that the compiler may take for impossible.

    What a cast makes of NaN is any number at all, and another each time it is looked at: a border would not hold it.
    """
    held = ir.Instruction(builder.block, value.type, "freeze", [value])
    builder._insert(held)
    return held
