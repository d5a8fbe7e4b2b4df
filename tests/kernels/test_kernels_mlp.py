"""The two-layer network: kernel against twin at odd sizes, the same bytes every time."""

import pytest
import torch

from blocknerf.kernels.mlp import two_layers, two_layers_torch
from blocknerf.kernels.registry import use_backend


def _inputs(points, inputs, width, outputs, dtype=torch.float32):
    rng = torch.Generator().manual_seed(0)
    shapes = [(points, inputs), (width, inputs), (width,), (outputs, width), (outputs,)]
    return [torch.randn(*shape, generator=rng, dtype=dtype).requires_grad_() for shape in shapes]


@pytest.mark.parametrize("sizes", [(1, 4, 8, 3), (64, 32, 64, 16), (1000, 20, 37, 5), (4097, 32, 64, 16)])
def test_kernel_agrees_with_twin(sizes):
    tensors = _inputs(*sizes)
    cotangent = torch.randn(sizes[0], sizes[3], generator=torch.Generator().manual_seed(1))
    results = []
    for backend in ("torch", "numba"):
        with use_backend(backend):
            out = two_layers(*tensors)
            results.append((out, *torch.autograd.grad((out * cotangent).sum(), tensors)))
    for twin, kernel in zip(*results, strict=True):
        assert torch.allclose(twin, kernel, atol=1e-5 * float(twin.detach().abs().max()))


def test_the_same_bytes_every_time():
    tensors = _inputs(5000, 32, 64, 16)
    one, other = (torch.autograd.grad(two_layers(*tensors).square().sum(), tensors) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_twin_gradients_by_finite_differences():
    assert torch.autograd.gradcheck(two_layers_torch, _inputs(5, 4, 6, 3, torch.float64))
