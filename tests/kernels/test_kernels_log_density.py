"""Density from its logarithm: kernel against reference, and what happens at the largest."""

import math

import pytest
import torch

from blocknerf.kernels.log_density import reference
from blocknerf.kernels.log_density.ops import exp_density
from blocknerf.kernels.registry import use_backend


@pytest.mark.parametrize("shape", [(1,), (7, 3), (1000, 1), (0,)])
def test_kernel_agrees_with_reference(shape):
    rng = torch.Generator().manual_seed(0)
    raw = (8 * torch.randn(*shape, generator=rng)).requires_grad_()
    cotangent = torch.randn(*shape, generator=rng)
    results = []
    for backend in ("torch", "numba"):
        with use_backend(backend):
            density = exp_density(raw, -1.0, 12.0)
            results.append((density, *torch.autograd.grad((density * cotangent).sum(), raw)))
    for expected, kernel in zip(*results, strict=True):
        assert torch.allclose(expected, kernel, rtol=1e-5)


def test_stops_growing_at_the_largest_and_gets_no_gradient_there():
    raw = torch.tensor([0.0, 12.9, 13.1, 1e30], requires_grad=True)
    density = exp_density(raw, -1.0, 12.0)
    (slope,) = torch.autograd.grad(density.sum(), raw)
    assert torch.allclose(density, torch.exp(torch.tensor([-1.0, 11.9, 12.0, 12.0])), rtol=1e-5)
    assert torch.allclose(slope, torch.tensor([math.exp(-1.0), math.exp(11.9), 0.0, 0.0]), rtol=1e-5)


def test_reference_gradient_by_finite_differences():
    raw = torch.tensor([-3.0, 0.5, 2.0, 14.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda raw: reference.exp_density(raw, -1.0, 12.0), (raw,))
