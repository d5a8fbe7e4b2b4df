"""One place decides which implementation of a kernel runs.

Kernels of X.py lie beside it: X_numba.py has them for arrays, X_triton.py for tensors on CUDA, under the same names and
with the same arguments. X.py itself holds the twins in torch, and all that autograd has to know. Values of many points
go to kernels channel after channel, the points side by side: [features, points], [channels, rays, samples].
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


def backend_for(tensor: Tensor, module: str | None = None) -> Backend:
    """numba for float32 on a CPU, triton for float32 and tables in float16 on CUDA; torch for everything else.

    torch too where `module` has no kernels of that backend, which is said once.
    """
    backend = _forced.get() or _backend_of(tensor)
    if module is None or backend == "torch" or _has_kernels(module, backend):
        return backend
    return "torch"


def _backend_of(tensor: Tensor) -> Backend:
    if tensor.device.type == "cpu":
        return "numba" if tensor.dtype == torch.float32 else "torch"
    fits_triton = tensor.device.type == "cuda" and tensor.dtype in (torch.float32, torch.float16)
    return "triton" if fits_triton and _has_triton() else "torch"


@contextlib.contextmanager
def use_backend(backend: Backend) -> Iterator[None]:
    """Forces one implementation inside the `with` block, and in backward passes of what was computed there."""
    token = _forced.set(backend)
    try:
        yield
    finally:
        _forced.reset(token)


def kernels_for(module: str, tensor: Tensor) -> Any:
    """The compiled kernels of a `module` of this package, to be called with tensors.

    Backward keeps what forward got: of CUDA tensors it runs in a thread that knows nothing of `use_backend`.
    """
    return _kernels(module, backend_for(tensor))


@cache
def _kernels(module: str, backend: Backend) -> "_OnArrays | ModuleType":
    kernels = importlib.import_module(f"{module}_{backend}")
    return _OnArrays(kernels) if backend == "numba" else kernels


class _OnArrays:
    """numba kernels, called with tensors. What a kernel writes to must lie in C order."""

    def __init__(self, kernels: ModuleType):
        self._kernels = kernels

    def __getattr__(self, name: str) -> Callable[..., None]:
        kernel = getattr(self._kernels, name)

        def call(*arguments: Any) -> None:
            kernel(*(array_of(each) if isinstance(each, Tensor) else each for each in arguments))

        setattr(self, name, call)
        return call


@cache
def _has_kernels(module: str, backend: Backend) -> bool:
    found = importlib.util.find_spec(f"{module}_{backend}") is not None
    if not found:
        log.warning("%s has no kernels in %s and runs in plain torch, slower.", module.rpartition(".")[2], backend)
    return found


@cache
def _has_triton() -> bool:
    found = importlib.util.find_spec("triton") is not None
    if not found:
        log.warning("Kernels on CUDA run in plain torch, many times slower: triton is missing (pip install triton).")
    return found
