"""A kernel against its twin in torch."""

from collections.abc import Callable, Sequence

from torch import Tensor

from benchmarks.cuda_checks import relative_error
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
        error = relative_error(twin, kernel)
        assert error <= tolerance, f"tensor {number}: {error:.2g} of its largest number"
