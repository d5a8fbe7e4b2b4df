"""Places, weights and histograms along rays in triton, interpreted: what is particular to them."""

import pytest
import torch

from blocknerf.kernels.compositing.ops import accumulate, render_weights
from blocknerf.kernels.histograms.ops import resample
from blocknerf.kernels.marching.ops import s_to_t, unit_cube_points
from blocknerf.kernels.proposal.ops import proposal_density
from blocknerf.kernels.registry import use_backend

pytest.importorskip("triton", reason="triton is made for Linux alone")
from benchmarks.kernels.cuda.checks import random, random_rays
from tests.support.reference import compare


@pytest.mark.parametrize("scale", [0.0, 0.3, 1.0, 4.0])
def test_distances_ascend_from_near_to_far(scale):
    origins, directions, _ = random_rays(25)
    edges_s = torch.linspace(0, 1, 33).expand(len(origins), -1)
    with use_backend("triton"):
        along = s_to_t(scale * origins, directions, edges_s, torch.tensor([0.02, 50.0]).expand(len(origins), 2))
    assert torch.allclose(along[:, 0], torch.tensor(0.02), atol=1e-4)
    assert torch.allclose(along[:, -1], torch.tensor(50.0), rtol=1e-2)
    assert bool((along.diff(dim=-1) > 0).all())


def test_the_proposal_adds_to_a_gradient_of_its_own():
    origins, directions, edges = random_rays(25)
    grid, gradient = (3 * random(9, 9, 9)).requires_grad_(), torch.ones(1, 729, 1)
    with use_backend("triton"):
        proposal_density(origins, directions, edges, grid, gradient).log1p().sum().backward()
    with use_backend("torch"):
        total = proposal_density(origins, directions, edges, grid).log1p().sum()
        (alone,) = torch.autograd.grad(total, grid)
    assert grid.grad is None
    assert torch.allclose(gradient.view_as(grid), 1 + alone, atol=1e-4)


def test_a_ceiling_of_density_has_no_gradient():
    origins, directions, edges = random_rays(25)
    grid = torch.full((9, 9, 9), 13.0, requires_grad=True)
    with use_backend("triton"):
        density = proposal_density(origins, directions, edges, grid)
        (grad,) = torch.autograd.grad(density.sum(), grid)
    assert torch.allclose(density, torch.tensor(12.0).exp())
    assert float(grad.abs().max()) == 0


def test_values_are_read_in_any_order_of_memory():
    weights, values = random(10, 7).abs(), random(3, 10, 7).permute(1, 2, 0)
    compare(lambda: accumulate(weights, values), "triton")


def test_a_dense_sample_far_away_leaves_the_near_ones_alone():
    _, _, edges = random_rays(1, 17)
    near = random(1, 8).abs().requires_grad_()
    far = torch.cat([near.detach(), torch.full((1, 9), 1e7)], 1).requires_grad_()
    with use_backend("triton"):
        alone, beside = render_weights(near, edges[:, :9]), render_weights(far, edges)
    assert torch.allclose(alone, beside[:, :8], rtol=1e-5)
    (one,) = torch.autograd.grad(alone.square().sum(), near)
    (other,) = torch.autograd.grad(beside[:, :8].square().sum(), far)
    assert torch.allclose(one, other[:, :8], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(("bins", "count"), [(1, 1), (16, 24), (33, 7)])
def test_resampling_a_flat_histogram_is_even(bins, count):
    flat = torch.linspace(0, 1, bins + 1).expand(30, -1)
    with use_backend("triton"):
        even = resample(flat, torch.full((30, bins), 1 / bins), count)
    assert torch.allclose(even, ((torch.arange(count + 1) + 0.5) / (count + 1)).expand(30, -1), atol=1e-5)


def test_no_rays_are_no_work():
    origins, directions, edges = (tensor[:0] for tensor in random_rays(25))
    density = torch.zeros(0, 12, requires_grad=True)
    grid = torch.zeros(9, 9, 9, requires_grad=True)
    with use_backend("triton"):
        assert s_to_t(origins, directions, edges, torch.zeros(0, 2)).shape == (0, 13)
        assert unit_cube_points(origins, directions, edges).shape == (0, 12, 3)
        assert resample(edges, density, 5).shape == (0, 6)
        weights = render_weights(density, edges)
        total = (
            accumulate(weights, torch.zeros(0, 12, 3)).sum() + proposal_density(origins, directions, edges, grid).sum()
        )
        grads = torch.autograd.grad(total, (density, grid))
    assert grads[0].shape == (0, 12)
    assert float(grads[1].abs().max()) == 0
