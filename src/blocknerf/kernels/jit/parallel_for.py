"""Kernels on all cores: a `kernel` divides a range among threads, and each calls its `worker_body` for pieces of it.

The range is cut into pieces, several per thread, and an idle thread takes the next one. So a thread that loses its core
to another program delays only one piece. The result of a piece depends neither on its thread nor on where it ends.

numba's `prange` compiles the loop three times in nested wrappers, which took half of the waiting time of a first run on
a machine, and its threads have other faults (`runtime/pool.py`).
"""

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

import blocknerf.kernels.jit.plain_loops as plain_loops
from blocknerf.kernels.jit.compiled import CHECKS_INDICES, compiled
from blocknerf.kernels.jit.numba_internals import IS_KNOWN, call_compiled, cgutils, compile_into_caller, raise_error
from blocknerf.runtime.pool import BYTES, INT64, JOB, THREADS, TOGETHER, VOID

F1, F2, F3 = types.float32[::1], types.float32[:, ::1], types.float32[:, :, ::1]
I1 = types.int64[::1]
F4, F8, I8 = types.float32, types.float64, types.int64

worker_body: Any = compiled(kept=False) if IS_KNOWN else plain_loops.worker_body
"""Decorates a function of `start`, `stop` and more that computes a part of one kernel's range."""


def kernel(*called_with: Any) -> Callable[[Callable[..., None]], Any]:
    """Decorates a function that divides its work, with the types of its arguments, so that it can be precompiled."""
    options = {"no_cfunc_wrapper": True} if IS_KNOWN else {}

    def decorated(function: Callable[..., None]) -> Any:
        dispatcher = compiled(function, nogil=True, **options)
        dispatcher.called_with = called_with
        return dispatcher

    return decorated


PIECES = 8
"""Pieces of a range per thread. Handing out more would cost more than a late thread."""

_ONE = ir.Constant(INT64, 1)

_FAULT = (
    (IndexError, "A kernel read or wrote outside of an array.")
    if CHECKS_INDICES
    else (MemoryError, "A kernel found no memory for its work.")
)
"""Errors in a worker's body."""


def _num_threads(typing_context):
    def generate(context, builder, signature, values):
        return _threads(builder)

    return types.int64(), generate


def _parallel_for(typing_context, body, count, arguments):
    """Calls body(start, stop, *arguments) on every thread, for pieces of range(count)."""
    body_arguments = (types.uint64, types.uint64, *arguments.types)  # no index is below 0

    def generate(context, builder, signature, values):
        compiled_body = compile_into_caller(typing_context, context, body, body_arguments, CHECKS_INDICES)
        threads, size = _threads(builder), context.cast(builder, values[1], count, types.int64)
        most = builder.select(
            builder.icmp_signed("==", threads, _ONE), _ONE, builder.mul(threads, ir.Constant(INT64, PIECES))
        )
        pieces = builder.select(builder.icmp_signed("<", size, most), size, most)
        nothing = ir.Constant(INT64, 0)
        task = cgutils.alloca_once_value(
            builder, cgutils.pack_struct(builder, [pieces, size, nothing, nothing, values[2]])
        )
        job = _job(context, builder.module, compiled_body, task.type)
        fewer = builder.select(builder.icmp_signed("<", pieces, threads), pieces, threads)
        helpers = builder.sub(fewer, _ONE)
        together = ir.FunctionType(VOID, [JOB.as_pointer(), BYTES, INT64])
        with builder.if_else(builder.icmp_signed(">", helpers, nothing)) as (shared, alone):
            with shared:
                _call(builder, together, TOGETHER, job, builder.bitcast(task, BYTES), helpers)
            with alone:
                builder.call(job, [builder.bitcast(task, BYTES)])
        failed = builder.load(cgutils.gep_inbounds(builder, task, 0, 3))
        with cgutils.if_unlikely(builder, cgutils.is_not_null(builder, failed)):
            raise_error(context, builder, *_FAULT)
        return context.get_dummy_value()

    return types.void(body, count, arguments), generate


num_threads: Any = intrinsic(_num_threads) if IS_KNOWN else plain_loops.num_threads
parallel_for: Any = intrinsic(_parallel_for) if IS_KNOWN else plain_loops.parallel_for


def _threads(builder: Any) -> Any:
    return _call(builder, ir.FunctionType(INT64, []), THREADS)


def _call(builder: Any, kind: ir.FunctionType, name: str, *arguments: Any) -> Any:
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)


def _job(context: Any, module: ir.Module, compiled_body: Any, task_type: ir.PointerType) -> ir.Function:
    """The function of each thread: it takes pieces until there are none."""
    job = ir.Function(module, JOB, module.get_unique_name("job"))
    job.linkage = "internal"
    job.attributes.add("noinline")
    builder = ir.IRBuilder(job.append_basic_block())
    task = builder.bitcast(job.args[0], task_type)
    pieces, count, _, _, values = cgutils.unpack_tuple(builder, builder.load(task), 5)
    arguments: Sequence[Any] = cgutils.unpack_tuple(builder, values, len(compiled_body.signature.args) - 2)
    take, work, end = (builder.append_basic_block(name) for name in ("take", "work", "end"))
    builder.branch(take)
    builder.position_at_end(take)
    piece = builder.atomic_rmw("add", cgutils.gep_inbounds(builder, task, 0, 2), _ONE, "monotonic")
    builder.cbranch(builder.icmp_signed("<", piece, pieces), work, end)
    builder.position_at_end(work)
    span = [_begin(builder, count, pieces, number) for number in (piece, builder.add(piece, _ONE))]
    status = call_compiled(context, builder, compiled_body, [*span, *arguments])
    with cgutils.if_unlikely(builder, status.is_error):
        builder.store(_ONE, cgutils.gep_inbounds(builder, task, 0, 3))
    builder.branch(take)
    builder.position_at_end(end)
    builder.ret_void()
    return job


def _begin(builder: Any, count: Any, pieces: Any, number: Any) -> Any:
    """Where piece `number` of range(count) begins: count (1 - (1 - number / pieces)^2).

    Pieces become smaller, so that late threads end with the others. If there are only as many numbers as pieces, each
    piece has one number.
    """
    left = builder.sub(pieces, number)
    behind = builder.sdiv(builder.mul(count, builder.mul(left, left)), builder.mul(pieces, pieces))
    return builder.select(builder.icmp_signed("==", count, pieces), number, builder.sub(count, behind))
