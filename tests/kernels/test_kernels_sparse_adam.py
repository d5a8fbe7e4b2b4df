"""Sparse Adam: torch's own where every row is touched, nothing where none is."""

import pytest
import torch

from blocknerf.kernels.registry import use_backend
from blocknerf.kernels.sparse_adam.ops import sparse_adam_step


def _gradient(values, rows):
    gradient = torch.zeros_like(values)
    gradient[:, rows] = values[:, rows]
    return gradient


def _run(backend, rows, steps=3):
    rng = torch.Generator().manual_seed(0)
    table = torch.randn(2, 6, 4, generator=rng)
    first, second = torch.zeros_like(table), torch.zeros_like(table)
    with use_backend(backend):
        for step in range(1, steps + 1):
            gradient = _gradient(torch.randn(2, 6, 4, generator=rng), rows)
            sparse_adam_step(table, gradient, first, second, step, 0.1)
            assert float(gradient.abs().sum()) == 0
    return table, first, second


def test_touching_every_row_is_adam():
    rng = torch.Generator().manual_seed(0)
    table = torch.nn.Parameter(torch.randn(2, 6, 4, generator=rng))
    reference = torch.optim.Adam([table], lr=0.1, betas=(0.9, 0.99), eps=1e-15)
    for _ in range(3):
        table.grad = torch.randn(2, 6, 4, generator=rng)
        reference.step()
    assert torch.allclose(_run("numba", list(range(6)))[0], table.detach(), atol=1e-5)


def test_kernel_agrees_with_reference_and_leaves_other_rows_alone():
    expected, kernel = _run("torch", [1, 4]), _run("numba", [1, 4])
    for a, b in zip(expected, kernel, strict=True):
        assert torch.allclose(a, b, atol=1e-6)
    untouched = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(kernel[0][:, [0, 2, 3, 5]], untouched[:, [0, 2, 3, 5]])
    assert not torch.equal(kernel[0][:, [1, 4]], untouched[:, [1, 4]])


@pytest.mark.parametrize("backend", ["torch", "numba"])
@pytest.mark.parametrize("features", [1, 2, 3, 4])
def test_a_zero_of_either_sign_touches_nothing_and_what_is_no_number_is_not_passed_over(backend, features):
    shape = (1, 205, features)  # not a whole number of vectors
    table, first, second = torch.zeros(shape), torch.ones(shape), torch.ones(shape)
    gradient = torch.full(shape, -0.0)
    gradient[0, [150, 204], -1], gradient[0, 70, 0] = 1.0, torch.nan
    with use_backend(backend):
        sparse_adam_step(table, gradient, first, second, 1, 0.1)
    assert table.any(-1).nonzero()[:, 1].tolist() == [70, 150, 204]
    assert table[0, 70].isnan().tolist() == [True] + [False] * (features - 1)
    assert torch.equal(gradient, torch.zeros_like(gradient))


@pytest.mark.parametrize("features", [1, 2, 3, 4, 59])
def test_tables_of_any_width_agree(features):
    """Some widths go through vectors, and what is left of a vector row by row."""
    results = []
    for backend in ("torch", "numba"):
        rng = torch.Generator().manual_seed(0)
        table = torch.randn(3, 67, features, generator=rng)
        moments = torch.zeros_like(table), torch.zeros_like(table)
        for number in (1, 2, 3):
            gradient = torch.randn(3, 67, features, generator=rng)
            gradient[torch.rand(3, 67, generator=rng) < 0.5] = 0
            with use_backend(backend):
                sparse_adam_step(table, gradient, *moments, number, 0.1)
        results.append((table, *moments))
    for expected, kernel in zip(*results, strict=True):
        assert torch.allclose(expected, kernel, atol=1e-6)
