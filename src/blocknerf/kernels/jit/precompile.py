"""Compiles the kernels of a training step beside everything else that a first run on a machine has to do."""

import os
import subprocess
import sys
from importlib import import_module
from typing import Any

from blocknerf.core.logging import log
from blocknerf.kernels.jit.compiled import is_compiled
from blocknerf.kernels.jit.numba_internals import IS_KNOWN

STEP = (
    *("mlp.backward_three", "mlp.backward", "hash_grid.encode", "mlp.forward_three", "mlp.forward"),
    "hash_grid.encode_backward_table",
    *("proposal.density_backward", "sparse_adam.step", "proposal.density", "marching.distances"),
    *("compositing.weights_backward", "compositing.accumulate_backward", "intervals.interlevel"),
    *("compositing.accumulate", "marching.unit_cube_points", "compositing.weights", "intervals.resample"),
    *("intervals.distortion", "log_density.density", "log_density.density_backward"),
)
"""What a step of the `hash` backbone calls, what takes longest first."""

_compilers: list[subprocess.Popen[bytes]] = []


def start_compiling(processes: int) -> None:
    """Starts `processes` that compile what of STEP is not in numba's cache; none where all is there."""
    if not IS_KNOWN:  # nothing is kept
        return
    missing = [number for number, name in enumerate(STEP) if not is_compiled(kernel_of(name))]
    if not missing:
        return
    log.info("Compiling kernels; the next run on this machine finds them ready.")
    queue, into = os.pipe()
    os.write(into, bytes(missing))
    os.close(into)
    command, nowhere = [sys.executable, "-m", __name__], subprocess.DEVNULL
    for _ in range(min(processes, len(missing))):
        # one that fails says nothing: the kernel is then compiled where it is called, and fails there
        _compilers.append(subprocess.Popen(command, stdin=queue, stdout=nowhere, stderr=nowhere))
    os.close(queue)


def finish_compiling() -> None:
    """Waits for what was started."""
    while _compilers:
        _compilers.pop().wait()


def kernel_of(name: str) -> Any:
    """What compiles a kernel of STEP."""
    module, function = name.split(".")
    return getattr(import_module(f"blocknerf.kernels.{module}_numba"), function)


def _compile_from_queue() -> None:
    """Takes numbers of STEP from standard input, which all processes read: whoever is idle gets the next byte."""
    while number := os.read(sys.stdin.fileno(), 1):
        kernel = kernel_of(STEP[number[0]])
        kernel.compile(kernel.called_with)


if __name__ == "__main__":
    _compile_from_queue()
