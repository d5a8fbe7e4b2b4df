"""Networks of two and of three layers: kernels against references at odd sizes, the same bytes every time."""

import pytest
import torch

from blocknerf.kernels.mlp import reference
from blocknerf.kernels.mlp.ops import (
    POINTS_IN_SLAB,
    fused_mlp,
    fused_mlp_three,
)
from blocknerf.kernels.registry import use_backend
from blocknerf.runtime import pool


def _inputs(points, inputs, width, outputs, dtype=torch.float32):
    rng = torch.Generator().manual_seed(0)
    shapes = [(points, inputs), (width, inputs), (width,), (outputs, width), (outputs,)]
    return [torch.randn(*shape, generator=rng, dtype=dtype).requires_grad_() for shape in shapes]


def _deeper_inputs(points, inputs, width, outputs, dtype=torch.float32):
    rng = torch.Generator().manual_seed(7)
    *two, weight, bias = _inputs(points, inputs, width, width + 3, dtype)
    last = [
        torch.randn(*shape, generator=rng, dtype=dtype).requires_grad_() for shape in [(outputs, width + 3), (outputs,)]
    ]
    return [*two, weight, bias, *last]


def _two_layers(*tensors):
    return torch.cat(fused_mlp(*tensors), -1)


NETWORKS = [(_two_layers, _inputs), (fused_mlp_three, _deeper_inputs)]
SIZES = [(1, 4, 8, 3), (64, 32, 64, 16), (POINTS_IN_SLAB, 5, 9, 2), (1000, 20, 37, 5), (4097, 32, 64, 16)]


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize(("network", "made"), NETWORKS)
def test_kernel_agrees_with_reference(network, made, sizes):
    tensors = made(*sizes)
    cotangent = torch.randn(sizes[0], sizes[3], generator=torch.Generator().manual_seed(1))
    results = []
    for backend in ("torch", "numba"):
        with use_backend(backend):
            out = network(*tensors)
            results.append((out, *torch.autograd.grad((out * cotangent).sum(), tensors)))
    for expected, kernel in zip(*results, strict=True):
        assert torch.allclose(expected, kernel, atol=1e-5 * float(expected.detach().abs().max()))


@pytest.mark.parametrize(("network", "made"), NETWORKS)
def test_the_same_bytes_every_time_on_any_number_of_threads(network, made):
    tensors, before = made(5000, 32, 64, 16), pool.num_threads()
    gradients = []
    for threads in (1, 2, 2, 5):
        pool.set_num_threads(threads)
        gradients.append(torch.autograd.grad(network(*tensors).square().sum(), tensors))
    pool.set_num_threads(before)
    assert all(torch.equal(a, b) for others in gradients[1:] for a, b in zip(gradients[0], others, strict=True))


def test_only_the_first_output_may_be_asked_for():
    """The others get no gradient then."""
    tensors = _inputs(70, 4, 8, 3)
    expected = torch.autograd.grad(reference.fused_mlp(*tensors)[:, 0].square().sum(), tensors)
    found = torch.autograd.grad(fused_mlp(*tensors)[0].square().sum(), tensors)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(expected, found, strict=True))


@pytest.mark.parametrize(
    ("twin", "made"), [(reference.fused_mlp, _inputs), (reference.fused_mlp_three, _deeper_inputs)]
)
def test_twin_gradients_by_finite_differences(twin, made):
    assert torch.autograd.gradcheck(twin, made(5, 4, 6, 3, torch.float64))
