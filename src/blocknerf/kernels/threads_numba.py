"""Kernels on all cores: a `kernel` shares out a range among threads, and each does its `part` of it.

numba's own `prange` does the same, but compiles the loop three times over in wrappers of wrappers: half of what a first
run on a machine waited for. What is called here is the pool of threads behind it.
"""

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.core.compiler import Flags, compile_internal
from numba.core.cpu_options import FastMathOptions
from numba.extending import intrinsic
from numba.np.ufunc.parallel import _launch_threads

from blocknerf.kernels.cached_numba import CHECKS_INDICES, cached

F1, F2, F3 = types.float32[::1], types.float32[:, ::1], types.float32[:, :, ::1]
I1 = types.int64[::1]
F4, F8, I8 = types.float32, types.float64, types.int64

part: Any = njit
"""A function of `start`, `stop` and more, for one kernel: it does that part of the kernel's range."""


def kernel(*called_with: Any) -> Callable[[Callable[..., None]], Any]:
    """A function that shares out its work, and the types that it is called with: what can be compiled beforehand."""

    def compiled(function: Callable[..., None]) -> Any:
        dispatcher = cached(function, nogil=True, no_cfunc_wrapper=True)
        dispatcher.called_with = called_with
        return dispatcher

    return compiled


_NOTHING, _BYTES, _INT64 = ir.VoidType(), ir.IntType(8).as_pointer(), ir.IntType(64)
_ONE = ir.Constant(_INT64, 1)
_PART_OF_POOL = ir.FunctionType(_NOTHING, [_BYTES.as_pointer(), _INT64.as_pointer(), _INT64.as_pointer(), _BYTES])
_POOL = ir.FunctionType(_NOTHING, [_BYTES] * 5 + [_INT64] * 3)

_launch_threads()  # a kernel that is loaded from the cache finds the pool by its name


_FAULT = (
    (IndexError, ("A kernel read or wrote outside of an array.",))
    if CHECKS_INDICES
    else (MemoryError, ("A kernel found no memory for its work.",))
)
"""What can go wrong in a part."""


def _flags() -> Any:
    """How a part is compiled: without what Python would need to call it."""
    flags: Any = Flags()
    flags.nrt, flags.fastmath, flags.error_model = True, FastMathOptions(True), "numpy"
    flags.noalias = True  # no array of a kernel overlaps another
    flags.boundscheck = CHECKS_INDICES
    flags.no_compile = flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
    return flags


def _num_threads(typing_context):
    def generate(context, builder, signature, values):
        return _call(builder, ir.FunctionType(_INT64, []), "get_num_threads")

    return types.int64(), generate


def _share_out(typing_context, part, count, arguments):
    """Calls part(start, stop, *arguments) on every thread, for equal shares of range(count)."""
    part_signature = types.void(types.uint64, types.uint64, *arguments.types)  # no index is below 0

    def generate(context, builder, signature, values):
        # into the kernel's own library, so that both are optimised together and once
        told = (context.active_code_library, part.dispatcher.py_func, part_signature.args, types.none, _flags(), {})
        compiled = compile_internal(typing_context, context, *told)
        threads = _call(builder, ir.FunctionType(_INT64, []), "get_num_threads")
        size = context.cast(builder, values[1], count, types.int64)
        task = cgutils.alloca_once_value(
            builder, cgutils.pack_struct(builder, [threads, size, ir.Constant(_INT64, 0), values[2]])
        )
        # the pool cuts its range, the threads' numbers, as numpy cuts arrays: by an address and a step
        begin = cgutils.alloca_once_value(builder, ir.Constant(_BYTES, None))
        end, step = cgutils.alloca_once_value(builder, threads), cgutils.alloca_once_value(builder, _ONE)
        share = _share(context, builder.module, compiled, task.type)
        with builder.if_else(builder.icmp_signed("==", threads, _ONE)) as (alone, together):
            with alone:  # without the pool, which not every threading layer lets several threads call
                pointers = zip((begin, end, step, task), _PART_OF_POOL.args, strict=True)
                builder.call(share, [builder.bitcast(pointer, kind) for pointer, kind in pointers])
            with together:
                pointers = (builder.bitcast(pointer, _BYTES) for pointer in (share, begin, end, step, task))
                _call(builder, _POOL, "numba_parallel_for", *pointers, ir.Constant(_INT64, 0), _ONE, threads)
        failed = builder.load(cgutils.gep_inbounds(builder, task, 0, 2))
        with cgutils.if_unlikely(builder, cgutils.is_not_null(builder, failed)):
            context.call_conv.return_user_exc(builder, *_FAULT)
        return context.get_dummy_value()

    return types.void(part, count, arguments), generate


num_threads: Any = intrinsic(_num_threads)
share_out: Any = intrinsic(_share_out)


def _call(builder: Any, kind: ir.FunctionType, name: str, *arguments: Any) -> Any:
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)


def _share(context: Any, module: ir.Module, compiled: Any, task_type: ir.PointerType) -> ir.Function:
    """What the pool calls with some of the threads' numbers, in one thread."""
    share = ir.Function(module, _PART_OF_POOL, module.get_unique_name("share"))
    share.linkage = "internal"
    share.attributes.add("noinline")
    begin, size, _, data = share.args
    builder = ir.IRBuilder(share.append_basic_block())
    task = builder.bitcast(data, task_type)
    threads, count, _, values = cgutils.unpack_tuple(builder, builder.load(task), 4)
    first = builder.ptrtoint(builder.load(begin), _INT64)
    last = builder.add(first, builder.load(size))

    def border(thread: Any) -> Any:
        return builder.sdiv(builder.mul(count, thread), threads)

    with cgutils.for_range_slice(builder, first, last, _ONE) as (thread, _):
        arguments: Sequence[Any] = cgutils.unpack_tuple(builder, values, len(compiled.signature.args) - 2)
        span = [border(thread), border(builder.add(thread, _ONE))]
        status, _ = context.call_internal_no_propagate(
            builder, compiled.fndesc, compiled.signature, [*span, *arguments]
        )
        with cgutils.if_unlikely(builder, status.is_error):
            builder.store(_ONE, cgutils.gep_inbounds(builder, task, 0, 2))
    builder.ret_void()
    return share
