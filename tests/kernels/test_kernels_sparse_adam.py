"""Sparse Adam: torch's own where every row is touched, nothing where none is."""

import torch

from blocknerf.kernels.registry import use_backend
from blocknerf.kernels.row_gradient import RowGradient
from blocknerf.kernels.sparse_adam import sparse_adam_step


def _gradient(values, rows):
    gradient = RowGradient(torch.zeros_like(values))
    for level in range(values.shape[0]):
        gradient.values[level, rows] = values[level, rows]
        gradient.seen[level, rows] = 1
    return gradient


def _run(backend, rows, steps=3):
    rng = torch.Generator().manual_seed(0)
    table = torch.randn(2, 6, 4, generator=rng)
    first, second = torch.zeros_like(table), torch.zeros_like(table)
    with use_backend(backend):
        for step in range(1, steps + 1):
            gradient = _gradient(torch.randn(2, 6, 4, generator=rng), rows)
            sparse_adam_step(table, gradient, first, second, step, 0.1)
            assert float(gradient.values.abs().sum()) == 0
            assert int(gradient.seen.sum()) == 0
    return table, first, second


def test_touching_every_row_is_adam():
    rng = torch.Generator().manual_seed(0)
    table = torch.nn.Parameter(torch.randn(2, 6, 4, generator=rng))
    reference = torch.optim.Adam([table], lr=0.1, betas=(0.9, 0.99), eps=1e-15)
    for _ in range(3):
        table.grad = torch.randn(2, 6, 4, generator=rng)
        reference.step()
    assert torch.allclose(_run("numba", list(range(6)))[0], table.detach(), atol=1e-5)


def test_kernel_agrees_with_twin_and_leaves_other_rows_alone():
    twin, kernel = _run("torch", [1, 4]), _run("numba", [1, 4])
    for a, b in zip(twin, kernel, strict=True):
        assert torch.allclose(a, b, atol=1e-6)
    untouched = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(kernel[0][:, [0, 2, 3, 5]], untouched[:, [0, 2, 3, 5]])
    assert not torch.equal(kernel[0][:, [1, 4]], untouched[:, [1, 4]])
