"""Places, weights and histograms along rays in triton, interpreted: against their twins."""

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from blocknerf.kernels.compositing import accumulate, render_weights
from blocknerf.kernels.intervals import distortion_loss, interlevel_loss, resample
from blocknerf.kernels.marching import distances, unit_cube_points
from blocknerf.kernels.proposal import proposal_density
from blocknerf.kernels.registry import use_backend

pytest.importorskip("triton", reason="triton is made for Linux alone")
sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from twins import compare, random

SAMPLES = (1, 17, 64)


def _rays(count: int = 25, samples: int = 12) -> tuple[Tensor, Tensor, Tensor]:
    edges = torch.rand(count, samples + 1, generator=torch.Generator().manual_seed(2)).cumsum(-1)
    return random(count, 3), torch.nn.functional.normalize(random(count, 3, seed=1), dim=-1), edges


def _histogram(rays: int, bins: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    inner = torch.rand(rays, bins - 1, generator=rng).sort(-1).values
    edges = torch.nn.functional.pad(torch.nn.functional.pad(inner, (1, 0)), (0, 1), value=1.0)
    return edges, torch.rand(rays, bins, generator=rng) / bins


@pytest.mark.parametrize("scale", [0.0, 0.3, 1.0, 4.0])
def test_distances_agree_and_end_at_near_and_far(scale):
    origins, directions, _ = _rays()
    edges_s = torch.linspace(0, 1, 33).expand(len(origins), -1)

    def call():
        return distances(scale * origins, directions, edges_s, 0.02, 50.0)

    with use_backend("torch"):
        twin = call()
    with use_backend("triton"):
        kernel = call()
    assert torch.allclose(twin, kernel, rtol=1e-3, atol=1e-4)
    assert torch.allclose(kernel[:, 0], torch.tensor(0.02), atol=1e-4)
    assert torch.allclose(kernel[:, -1], torch.tensor(50.0), rtol=1e-2)
    assert bool((kernel.diff(dim=-1) > 0).all())


@pytest.mark.parametrize("far", [0.05, 1.0, 100.0])
def test_points_and_gradients_of_rays_agree(far):
    """Inside the cube, across its border, and far outside."""
    origins, directions, edges = _rays()
    rays = ((0.1 * origins).requires_grad_(), directions.requires_grad_())
    cotangent = random(25, 12, 3, seed=3)

    def call():
        points = unit_cube_points(*rays, far * edges)
        return points, *torch.autograd.grad((points * cotangent).sum(), rays)

    compare(call, "triton", 1e-4)


def test_the_proposal_agrees_and_adds_to_a_gradient_of_its_own():
    origins, directions, edges = _rays()
    grid = (3 * random(9, 9, 9)).requires_grad_()

    def call():
        density = proposal_density(origins, directions, edges, grid)
        return density, torch.autograd.grad(density.log1p().sum(), grid)[0]

    compare(call, "triton", 1e-4)
    gradient = torch.zeros(1, 729, 1)
    with use_backend("triton"):
        proposal_density(origins, directions, edges, grid, gradient).log1p().sum().backward()
    assert torch.allclose(gradient.view_as(grid), call()[1], atol=1e-4)


def test_a_ceiling_of_density_has_no_gradient():
    origins, directions, edges = _rays()
    grid = torch.full((9, 9, 9), 13.0, requires_grad=True)
    with use_backend("triton"):
        density = proposal_density(origins, directions, edges, grid)
        (grad,) = torch.autograd.grad(density.sum(), grid)
    assert torch.allclose(density, torch.tensor(12.0).exp())
    assert float(grad.abs().max()) == 0


@pytest.mark.parametrize("samples", SAMPLES)
@pytest.mark.parametrize("channels", [1, 5])
def test_compositing_and_its_gradients_agree(samples, channels):
    _, _, edges = _rays(40, samples)
    density = (2 * random(40, samples).abs()).requires_grad_()
    values = random(40, samples, channels, seed=3).requires_grad_()
    cotangents = random(40, samples, seed=4), random(40, channels, seed=5)

    def call():
        weights = render_weights(density, edges)
        total = accumulate(weights, values)
        loss = (weights * cotangents[0]).sum() + (total * cotangents[1]).sum()
        return weights, total, *torch.autograd.grad(loss, (density, values))

    compare(call, "triton", 1e-5)


def test_values_are_read_in_any_order_of_memory():
    weights, values = random(10, 7).abs(), random(3, 10, 7).permute(1, 2, 0)
    compare(lambda: accumulate(weights, values), "triton")


def test_a_dense_sample_far_away_leaves_the_near_ones_alone():
    _, _, edges = _rays(1, 17)
    near = random(1, 8).abs().requires_grad_()
    far = torch.cat([near.detach(), torch.full((1, 9), 1e7)], 1).requires_grad_()
    with use_backend("triton"):
        alone, beside = render_weights(near, edges[:, :9]), render_weights(far, edges)
    assert torch.allclose(alone, beside[:, :8], rtol=1e-5)
    (one,) = torch.autograd.grad(alone.square().sum(), near)
    (other,) = torch.autograd.grad(beside[:, :8].square().sum(), far)
    assert torch.allclose(one, other[:, :8], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(("bins", "count"), [(1, 1), (16, 24), (33, 7)])
def test_resampling_agrees(bins, count):
    edges, weights = _histogram(30, bins)
    jitter = torch.rand(30, generator=torch.Generator().manual_seed(1))
    compare(lambda: resample(edges, weights, count, jitter), "triton", 2e-5)
    flat = torch.linspace(0, 1, bins + 1).expand(30, -1)
    with use_backend("triton"):
        even = resample(flat, torch.full((30, bins), 1 / bins), count)
    assert torch.allclose(even, ((torch.arange(count + 1) + 0.5) / (count + 1)).expand(30, -1), atol=1e-5)


@pytest.mark.parametrize(("bins", "fine"), [(5, 11), (16, 40), (64, 3)])
def test_losses_of_histograms_and_their_gradients_agree(bins, fine):
    edges, weights = _histogram(30, bins)
    fine_edges, fine_weights = _histogram(30, fine, seed=1)
    weights, fine_weights = weights.requires_grad_(), fine_weights.requires_grad_()

    def call():
        interlevel = interlevel_loss(edges, weights, fine_edges, fine_weights)
        distortion = distortion_loss(fine_edges, fine_weights)
        grads = torch.autograd.grad(interlevel, weights), torch.autograd.grad(distortion, fine_weights)
        return interlevel, distortion, *grads[0], *grads[1]

    compare(call, "triton", 1e-4)


def test_no_rays_are_no_work():
    origins, directions, edges = (tensor[:0] for tensor in _rays())
    density = torch.zeros(0, 12, requires_grad=True)
    grid = torch.zeros(9, 9, 9, requires_grad=True)
    with use_backend("triton"):
        assert distances(origins, directions, edges, 0.1, 9.0).shape == (0, 13)
        assert unit_cube_points(origins, directions, edges).shape == (0, 12, 3)
        assert resample(edges, density, 5).shape == (0, 6)
        weights = render_weights(density, edges)
        total = (
            accumulate(weights, torch.zeros(0, 12, 3)).sum() + proposal_density(origins, directions, edges, grid).sum()
        )
        grads = torch.autograd.grad(total, (density, grid))
    assert grads[0].shape == (0, 12)
    assert float(grads[1].abs().max()) == 0
