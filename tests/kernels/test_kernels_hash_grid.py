"""The hash encoding: laws of the reference, the kernel against the reference, gradients."""

import pytest
import torch

from blocknerf.kernels.hash_grid import reference
from blocknerf.kernels.hash_grid.ops import FEATURES, hash_encode, level_resolutions
from blocknerf.kernels.registry import use_backend
from blocknerf.kernels.row_gradient import nonzero_rows
from blocknerf.runtime.pool import num_threads, set_num_threads

RESOLUTIONS = torch.tensor([3, 8, 40])  # the first two fit into 1,024 rows, the last is hashed


def _table(rows=1024, dtype=torch.float32, seed=0, features=4):
    return torch.randn(3, rows, features, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def _points(count, dtype=torch.float32, seed=1):
    return torch.rand(count, 3, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_a_corner_of_a_dense_level_gives_its_row():
    table = _table()
    corner = torch.tensor([[1, 2, 3]])
    encoded = hash_encode(corner / 3.0, table, RESOLUTIONS)
    assert torch.allclose(encoded[0, :4], table[0, 1 + 4 * (2 + 4 * 3)], atol=1e-5)


def test_weights_sum_to_one():
    table = torch.ones(3, 1024, 4)
    assert torch.allclose(hash_encode(_points(500), table, RESOLUTIONS), torch.ones(500, 12), atol=1e-6)


def test_linear_inside_a_cell():
    """The mean of two points that differ in one coordinate only is the value half-way."""
    table = _table()
    low, high = torch.tensor([[0.26, 0.3, 0.3]]), torch.tensor([[0.32, 0.3, 0.3]])  # no plane of 1/3 or 1/8 between
    low_value, high_value, middle = (hash_encode(p, table, RESOLUTIONS) for p in (low, high, (low + high) / 2))
    assert torch.allclose(middle[:, :8], (low_value + high_value)[:, :8] / 2, atol=1e-5)


@pytest.mark.parametrize("shift", [0.0, 0.5])
@pytest.mark.parametrize("features", [2, 4])
@pytest.mark.parametrize("count", [1, 63, 64, 300, 20_000])
def test_kernel_agrees_with_reference(shift, features, count):
    """Forward, gradient to the table and to the points; also outside the cube, and past the end of a group."""
    table = _table(features=features).requires_grad_()
    points = (_points(count) * (1 + 2 * shift) - shift).requires_grad_()
    cotangent = torch.randn(count, 3 * features, generator=torch.Generator().manual_seed(2))
    results = []
    for backend in ("torch", "numba"):
        with use_backend(backend):
            encoded = hash_encode(points, table, RESOLUTIONS)
            results.append((encoded, *torch.autograd.grad((encoded * cotangent).sum(), (points, table))))
    for expected, kernel in zip(*results, strict=True):
        assert torch.allclose(expected, kernel, atol=2e-4 * float(expected.detach().abs().max()))


def test_a_point_is_encoded_alike_whatever_comes_before_it():
    table, points = _table(), _points(1000)
    encoded = hash_encode(points, table, RESOLUTIONS)
    assert torch.equal(encoded[333:433], hash_encode(points[333:433], table, RESOLUTIONS))


def test_bytes_do_not_depend_on_the_number_of_threads():
    table, points = _table().requires_grad_(), _points(5000)
    before, results = num_threads(), []
    for threads in (1, 2, 5):
        set_num_threads(threads)
        encoded = hash_encode(points, table, RESOLUTIONS)
        results.append((encoded, *torch.autograd.grad(encoded.square().sum(), table)))
    set_num_threads(before)
    assert all(torch.equal(one, other) for one, *many in zip(*results, strict=True) for other in many)


def test_reference_gradients_by_finite_differences():
    table = _table(rows=64, dtype=torch.float64).requires_grad_()
    points = (0.05 + 0.9 * _points(6, torch.float64)).requires_grad_()
    encode = lambda p, t: reference.hash_encode(p, t, torch.tensor([3, 8, 11]))  # noqa: E731
    assert torch.autograd.gradcheck(encode, (points, table))


def test_a_gradient_of_its_own_is_added_to():
    table, points = _table().requires_grad_(), _points(20)
    hash_encode(points, table, RESOLUTIONS).sum().backward()
    once, table.grad = table.grad, None
    gradient = torch.zeros_like(table)
    for _ in range(2):
        hash_encode(points, table, RESOLUTIONS, gradient).sum().backward()
    assert table.grad is None
    assert torch.allclose(gradient, 2 * once)
    for level in range(3):
        assert 0 < int(nonzero_rows(gradient)[level].sum()) < 1024


def test_the_same_gradient_every_time():
    """Levels are summed by one thread each, in order: the same bytes."""
    grads = []
    for _ in range(2):
        gradient = torch.zeros(3, 1024, 4)
        table = _table().requires_grad_()
        hash_encode(_points(5000), table, RESOLUTIONS, gradient).square().sum().backward()
        grads.append(gradient)
    assert torch.equal(*grads)


def test_resolutions_run_from_base_to_finest():
    assert level_resolutions(8, 16, 2048).tolist() == [16, 32, 64, 128, 256, 512, 1024, 2048]
    assert level_resolutions(1, 16, 2048).tolist() == [16]


@pytest.mark.parametrize(("rows", "features"), [(12, FEATURES), (16, 3)])
def test_a_table_that_the_kernel_would_read_past_is_refused(rows, features):
    with pytest.raises(ValueError, match=f"has {rows} of {features}"):
        hash_encode(torch.rand(5, 3), torch.zeros(2, rows, features), level_resolutions(2, 2, 4))
