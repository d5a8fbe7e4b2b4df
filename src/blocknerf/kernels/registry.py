"""Decides which implementation of a kernel runs.

Each operation is a package. `ops.py` is what others import, and has everything that autograd needs. `reference.py` is
the operation in plain torch, with its equations; kernels are compared with it. `numba.py` has kernels for arrays,
`triton.py` for tensors on CUDA, with the same names and arguments. Values of many points are passed to kernels channel
by channel: [features, points], [channels, rays, samples].
"""

import contextlib
import importlib
import importlib.util
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from functools import cache
from types import ModuleType
from typing import Any, Literal

import torch
from torch import Tensor

from blocknerf.core.logging import log
from blocknerf.kernels.jit.tensor_bridge import array_of

Backend = Literal["torch", "numba", "triton"]
_forced: ContextVar[Backend | None] = ContextVar("forced_backend", default=None)


def backend_for(kernel: str, tensor: Tensor) -> Backend:
    """The backend that runs `kernel` (operation.function): the preferred one, or torch (the reference) if that has no
    such kernel, which is logged once."""
    backend = preferred_backend(tensor)
    return backend if backend == "torch" or _has_kernel(kernel, backend) else "torch"


def preferred_backend(tensor: Tensor) -> Backend:
    """numba for float32 on a CPU, triton for float32 and tables in float16 on CUDA; torch for everything else."""
    forced = _forced.get()
    if forced is not None:
        return forced
    if tensor.device.type == "cpu":
        return "numba" if tensor.dtype == torch.float32 else "torch"
    fits_triton = tensor.device.type == "cuda" and tensor.dtype in (torch.float32, torch.float16)
    return "triton" if fits_triton and _has_triton() else "torch"


@contextlib.contextmanager
def use_backend(backend: Backend) -> Iterator[None]:
    """Forces one implementation inside the `with` block, and in backward passes of its results."""
    token = _forced.set(backend)
    try:
        yield
    finally:
        _forced.reset(token)


def kernels_for(operation: str, tensor: Tensor) -> Any:
    """The compiled kernels of an `operation`, to be called with tensors.

    Backward uses the kernels that forward got: for CUDA tensors, it runs in a thread without `use_backend`.
    """
    return _kernels(operation, preferred_backend(tensor))


@cache
def _kernels(operation: str, backend: Backend) -> "_OnArrays | ModuleType":
    kernels = importlib.import_module(f"blocknerf.kernels.{operation}.{backend}")
    return _OnArrays(kernels) if backend == "numba" else kernels


class _OnArrays:
    """numba kernels, called with tensors. Tensors to which a kernel writes must be in C order."""

    def __init__(self, kernels: ModuleType):
        self._kernels = kernels

    def __getattr__(self, name: str) -> Callable[..., None]:
        kernel = getattr(self._kernels, name)

        def call(*arguments: Any) -> None:
            kernel(*(array_of(each) if isinstance(each, Tensor) else each for each in arguments))

        setattr(self, name, call)
        return call


@cache
def _has_kernel(kernel: str, backend: Backend) -> bool:
    operation, function = kernel.split(".")
    has_module = importlib.util.find_spec(f"blocknerf.kernels.{operation}.{backend}") is not None
    found = has_module and hasattr(_kernels(operation, backend), function)
    if not found:
        log.info("%s has no kernel in %s; its torch reference runs instead.", kernel, backend)
    return found


@cache
def _has_triton() -> bool:
    found = importlib.util.find_spec("triton") is not None
    if not found:
        log.warning("Kernels on CUDA run in plain torch, many times slower: triton is missing (pip install triton).")
    return found
