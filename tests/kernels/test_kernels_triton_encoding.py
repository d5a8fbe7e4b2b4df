"""The hash encoding and Adam on its rows in triton, interpreted: what only tables know."""

import pytest
import torch

from blocknerf.kernels.hash_grid.ops import hash_encode
from blocknerf.kernels.registry import use_backend
from blocknerf.kernels.sparse_adam.ops import sparse_adam_step

pytest.importorskip("triton", reason="triton is made for Linux alone")
from benchmarks.kernels.cuda import checks as cuda_checks
from benchmarks.kernels.cuda.checks import random, random_points
from tests.support.reference import compare

RESOLUTIONS = torch.tensor(cuda_checks.RESOLUTIONS)


def test_any_order_of_memory_is_read():
    """Points by columns, and gradients that arrive by columns."""
    table, points = random(3, 1024, 4).requires_grad_(), random_points(300).T.contiguous().T
    cotangent = random(12, len(points), seed=2).T
    call = lambda: torch.autograd.grad(hash_encode(points, table, RESOLUTIONS), table, cotangent)  # noqa: E731
    compare(call, "triton")


def test_a_point_whose_gradient_is_zero_touches_nothing():
    table = random(3, 1024, 4).requires_grad_()
    gradient = torch.zeros(3, 1024, 4)
    points = random_points(20)[5:]
    with use_backend("triton"):
        encoded = hash_encode(points, table, RESOLUTIONS, gradient)
    encoded[:10].sum().backward()  # by the kernels of forward, though nobody asks for them any more
    assert table.grad is None
    with use_backend("torch"):
        alone = hash_encode(points[:10], table, RESOLUTIONS)
        assert torch.allclose(torch.autograd.grad(alone.sum(), table)[0], gradient, atol=1e-5)


def test_no_points_touch_nothing():
    table = random(3, 1024, 4).requires_grad_()
    with use_backend("triton"):
        encoded = hash_encode(torch.zeros(0, 3), table, RESOLUTIONS)
        (grad,) = torch.autograd.grad(encoded.sum(), table)
    assert encoded.shape == (0, 12)
    assert float(grad.abs().max()) == 0


def test_a_table_in_half_precision_is_summed_in_float32():
    half, points = random(3, 1024, 4).half(), random_points(300).requires_grad_()
    table = half.float().requires_grad_()
    cotangent = random(len(points), 12, seed=2)
    half.requires_grad_()
    with use_backend("torch"):
        encoded = hash_encode(points, table, RESOLUTIONS)
        expected = torch.autograd.grad((encoded * cotangent).sum(), (points, table))
    with use_backend("triton"):
        in_half = hash_encode(points, half, RESOLUTIONS)
        gradients = torch.autograd.grad((in_half * cotangent).sum(), (points, half))
    assert in_half.dtype == torch.float32
    assert torch.allclose(encoded, in_half, atol=1e-5)
    assert torch.allclose(expected[0], gradients[0], atol=2e-3)
    assert torch.allclose(expected[1].half(), gradients[1], atol=2e-3)


@pytest.mark.parametrize("shape", [(2, 512, 4), (1, 343, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_adam_agrees_and_leaves_other_rows_alone(shape, dtype):
    """343 rows of one number are a proposal grid; whole blocks of rows that nothing touched are passed over."""

    def step(backend):
        table, first, second = random(*shape).to(dtype), torch.zeros(shape), torch.zeros(shape)
        for number in (1, 2, 3):
            gradient = torch.zeros(shape)
            rows = torch.tensor([0, 3, 200, shape[1] - 1])
            gradient[-1, rows] = random(*shape, seed=number)[-1, rows]
            with use_backend(backend):
                sparse_adam_step(table, gradient, first, second, number, 0.1)
            assert float(gradient.abs().max()) == 0
        return table, first, second

    for expected, kernel in zip(step("torch"), step("triton"), strict=True):
        assert torch.allclose(expected.float(), kernel.float(), atol=1e-6 if dtype == torch.float32 else 2e-3)
    untouched = torch.ones(shape[1], dtype=torch.bool)
    untouched[[0, 3, 200, shape[1] - 1]] = False
    table = step("triton")[0]
    assert torch.equal(table[:, untouched], random(*shape).to(dtype)[:, untouched])
    assert not torch.equal(table[-1, ~untouched], random(*shape).to(dtype)[-1, ~untouched])
