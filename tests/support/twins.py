"""A kernel against its twin in torch."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from blocknerf.kernels.registry import Backend, use_backend


def compare(call: Callable[[], Tensor | Sequence[Tensor]], backend: Backend, tolerance: float = 1e-5) -> None:
    """`call` gives the same tensors by both, within `tolerance` of the largest value of each."""
    with use_backend("torch"):
        twins = call()
    with use_backend(backend):
        ours = call()
    if isinstance(twins, Tensor) and isinstance(ours, Tensor):
        twins, ours = [twins], [ours]
    for number, (twin, kernel) in enumerate(zip(twins, ours, strict=True)):
        assert twin.shape == kernel.shape
        assert twin.dtype == kernel.dtype
        largest = float(twin.detach().abs().max()) if twin.numel() else 0.0
        error = float((twin - kernel).detach().abs().max()) if twin.numel() else 0.0
        assert error <= tolerance * largest, f"tensor {number}: {error:.2g} of {largest:.2g}"
        assert bool(kernel.isfinite().all())


def random(*shape: int, seed: int = 0) -> Tensor:
    """Normal numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
