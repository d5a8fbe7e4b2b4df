"""A kernel against its reference: the same operation in plain torch, which is taken as the truth."""

from collections.abc import Callable, Sequence

from torch import Tensor

from benchmarks.kernels.cuda.checks import relative_error
from blocknerf.kernels.registry import Backend, use_backend


def compare(call: Callable[[], Tensor | Sequence[Tensor]], backend: Backend, tolerance: float = 1e-5) -> None:
    """`call` gives the same tensors by both, within `tolerance` of the largest value of each."""
    with use_backend("torch"):
        expected = call()
    with use_backend(backend):
        found = call()
    if isinstance(expected, Tensor) and isinstance(found, Tensor):
        expected, found = [expected], [found]
    for number, (reference, kernel) in enumerate(zip(expected, found, strict=True)):
        error = relative_error(reference, kernel)
        assert error <= tolerance, f"tensor {number}: {error:.2g} of its largest number"
