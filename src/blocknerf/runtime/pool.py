"""The threads of the kernels: they sleep until there is work, and take it piece by piece.

It replaces numba's three layers, because each has a serious drawback. OpenMP's threads spin while they wait, and wait
for equal shares, which on a busy machine took more than half of the speed. TBB hangs in some versions when a program
ends. The workqueue ends the program when two threads call at once. None of them is loaded, whatever
NUMBA_THREADING_LAYER says.

A caller that finds the pool busy does all the work alone.
"""

import contextlib
import ctypes
import os
import threading
from collections.abc import Iterator
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir

from blocknerf.runtime.cores import available_cores

TOGETHER = "blocknerf_together"
"""The symbol of `together(job, data, helpers)`: job(data) here and in up to `helpers` threads; returns when all have.

A job takes pieces of its work until none is left. A thread that has not started by then is not waited for.
"""
THREADS = "blocknerf_threads"
"""The symbol of `threads()`: how many a kernel may use, an int64."""

VOID, BYTES, INT64 = ir.VoidType(), ir.IntType(8).as_pointer(), ir.IntType(64)
JOB = ir.FunctionType(VOID, [BYTES])
_INT32 = ir.IntType(32)
_SEMAPHORE = ir.ArrayType(INT64, 8)  # larger than any system's sem_t


def _code() -> ir.Module:
    """`together`, and what each thread of the pool does for ever.

    Three semaphores: `free` is the right to use the pool, `work` asks for one thread each time, and `done` says that
    one which came has ended. Who is not there yet when all pieces are taken finds that the caller has taken its request
    back, so nobody waits for a thread that has no core.
    """
    module = ir.Module("blocknerf_pool")
    free, work, done = (_variable(module, name, _SEMAPHORE) for name in ("free", "work", "done"))
    job, data = _variable(module, "job", JOB.as_pointer()), _variable(module, "data", BYTES)
    count = _variable(module, "count", INT64)
    one_semaphore = ir.FunctionType(_INT32, [_SEMAPHORE.as_pointer()])
    wait, take, post = (ir.Function(module, one_semaphore, f"sem_{name}") for name in ("wait", "trywait", "post"))

    def failed(builder: ir.IRBuilder, call: ir.Function, semaphore: ir.GlobalVariable) -> ir.Value:
        return builder.icmp_signed("!=", builder.call(call, [semaphore]), ir.Constant(_INT32, 0))

    def wait_for(builder: ir.IRBuilder, semaphore: ir.GlobalVariable) -> None:
        again, after = builder.append_basic_block("wait"), builder.append_basic_block("waited")
        builder.branch(again)
        builder.position_at_end(again)
        builder.cbranch(failed(builder, wait, semaphore), again, after)  # by a signal
        builder.position_at_end(after)

    @contextlib.contextmanager
    def times(builder: ir.IRBuilder, count: ir.Value) -> Iterator[None]:
        before, head = builder.block, builder.append_basic_block("head")
        body, after = builder.append_basic_block("body"), builder.append_basic_block("after")
        builder.branch(head)
        builder.position_at_end(head)
        number = builder.phi(INT64)
        number.add_incoming(ir.Constant(INT64, 0), before)
        builder.cbranch(builder.icmp_signed("<", number, count), body, after)
        builder.position_at_end(body)
        yield
        number.add_incoming(builder.add(number, ir.Constant(INT64, 1)), builder.block)
        builder.branch(head)
        builder.position_at_end(after)

    threads = ir.Function(module, ir.FunctionType(INT64, []), THREADS)
    builder = ir.IRBuilder(threads.append_basic_block("entry"))
    builder.ret(builder.load(count))

    worker = ir.Function(module, ir.FunctionType(VOID, []), "worker")
    builder = ir.IRBuilder(worker.append_basic_block("entry"))
    forever = builder.append_basic_block("forever")
    builder.branch(forever)
    builder.position_at_end(forever)
    wait_for(builder, work)
    builder.call(builder.load(job), [builder.load(data)])
    builder.call(post, [done])
    builder.branch(forever)

    together = ir.Function(module, ir.FunctionType(VOID, [JOB.as_pointer(), BYTES, INT64]), TOGETHER)
    given_job, given_data, helpers = together.args
    builder = ir.IRBuilder(together.append_basic_block("entry"))
    with builder.if_then(failed(builder, take, free)):
        builder.call(given_job, [given_data])
        builder.ret_void()
    builder.store(given_job, job)
    builder.store(given_data, data)
    with times(builder, helpers):
        builder.call(post, [work])
    builder.call(given_job, [given_data])
    with times(builder, helpers), builder.if_then(failed(builder, take, work)):
        wait_for(builder, done)
    builder.call(post, [free])
    builder.ret_void()
    return module


def _variable(module: ir.Module, name: str, kind: ir.Type) -> ir.GlobalVariable:
    variable: Any = ir.GlobalVariable(module, kind, name)
    variable.initializer = ir.Constant(kind, None)
    return variable


def _compiled() -> dict[str, int]:
    """The compiled code. It lives for ever, because threads sleep in it when the program ends."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine()
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(str(_code())), machine)
    engine.finalize_object()
    functions = {name: engine.get_function_address(name) for name in (TOGETHER, THREADS, "worker")}
    variables = {name: engine.get_global_value_address(name) for name in ("free", "work", "done", "count")}
    engine.detach()
    return functions | variables


_AT = _compiled()
_WORKER = ctypes.CFUNCTYPE(None)(_AT["worker"])
_SEMAPHORES = {name: ctypes.c_void_p(_AT[name]) for name in ("free", "work", "done")}
_COUNT = ctypes.c_int64.from_address(_AT["count"])
_SYSTEM = ctypes.CDLL(None)
_workers: list[threading.Thread] = []


def num_threads() -> int:
    """How many threads a kernel that is called now may use."""
    value = ctypes.c_int()
    _SYSTEM.sem_getvalue(_SEMAPHORES["free"], ctypes.byref(value))
    return _COUNT.value if value.value else 1


def set_num_threads(count: int) -> None:
    """From now on kernels of this process use `count` threads, 1 at least, of which one is the caller's."""
    while len(_workers) < count - 1:
        worker = threading.Thread(target=_WORKER, name=f"kernels {len(_workers) + 1}", daemon=True)
        worker.start()
        _workers.append(worker)
    _COUNT.value = max(1, count)


@contextlib.contextmanager
def taken() -> Iterator[bool]:
    """Inside, each kernel stays in the calling thread; False if others have already taken the pool."""
    is_ours = _SYSTEM.sem_trywait(_SEMAPHORES["free"]) == 0
    try:
        yield is_ours
    finally:
        if is_ours:
            _SYSTEM.sem_post(_SEMAPHORES["free"])


def _begin() -> None:
    """For a forked process, which has none of its parent's threads."""
    for name, value in (("free", 1), ("work", 0), ("done", 0)):
        _SYSTEM.sem_init(_SEMAPHORES[name], 0, value)
    _workers.clear()
    set_num_threads(_COUNT.value or available_cores())


_begin()
os.register_at_fork(after_in_child=_begin)
for name in (TOGETHER, THREADS):
    llvm.add_symbol(name, _AT[name])
