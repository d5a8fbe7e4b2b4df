"""One place decides which implementation runs."""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Literal

import torch
from torch import Tensor

Backend = Literal["torch", "numba"]
_forced: ContextVar[Backend | None] = ContextVar("forced_backend", default=None)


def backend_for(tensor: Tensor) -> Backend:
    """numba for float32 on a CPU, torch for everything else."""
    fits_numba = tensor.device.type == "cpu" and tensor.dtype == torch.float32
    return _forced.get() or ("numba" if fits_numba else "torch")


@contextlib.contextmanager
def use_backend(backend: Backend) -> Iterator[None]:
    """Forces one implementation inside the `with` block."""
    token = _forced.set(backend)
    try:
        yield
    finally:
        _forced.reset(token)
