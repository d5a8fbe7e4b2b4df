"""Compiles the kernels of a training step in the background of a first run on a machine."""

import os
import subprocess
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from blocknerf.core.logging import log
from blocknerf.kernels.jit.compiled import is_compiled
from blocknerf.kernels.jit.numba_internals import IS_KNOWN

_compilers: list[subprocess.Popen[bytes]] = []


def start_compiling(kernels: Sequence[str], processes: int) -> None:
    """Starts `processes` that compile those of `kernels` (operation.function) that are not in numba's cache.

    They are compiled in order; if all are cached, no process starts."""
    if not IS_KNOWN:  # nothing is kept
        return
    missing = [name for name in kernels if not is_compiled(kernel_of(name))]
    if not missing:
        return
    log.info("Compiling kernels. The next run on this machine reuses them.")
    queue, into = os.pipe()
    os.write(into, bytes(range(len(missing))))
    os.close(into)
    command, nowhere = [sys.executable, "-m", __name__, *missing], subprocess.DEVNULL
    for _ in range(min(processes, len(missing))):
        # one that fails is silent: the kernel is then compiled when it is called, and fails there
        _compilers.append(subprocess.Popen(command, stdin=queue, stdout=nowhere, stderr=nowhere))
    os.close(queue)


def finish_compiling() -> None:
    """Waits for the processes of `start_compiling`."""
    while _compilers:
        _compilers.pop().wait()


def kernel_of(name: str) -> Any:
    """The kernel of that name, which can be compiled."""
    operation, function = name.split(".")
    return getattr(import_module(f"blocknerf.kernels.{operation}.numba"), function)


def _compile_from_queue() -> None:
    """Reads indices of arguments from standard input, which all processes share: an idle one reads the next byte."""
    while number := os.read(sys.stdin.fileno(), 1):
        kernel = kernel_of(sys.argv[1 + number[0]])
        kernel.compile(kernel.called_with)


if __name__ == "__main__":
    _compile_from_queue()
