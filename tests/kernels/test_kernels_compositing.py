"""Compositing: laws, brute force, kernel against reference."""

import math

import pytest
import torch

from blocknerf.kernels.compositing import reference
from blocknerf.kernels.compositing.ops import accumulate, render_weights
from blocknerf.kernels.registry import use_backend


def _rays(rays=40, samples=17, seed=0):
    rng = torch.Generator().manual_seed(seed)
    edges = torch.rand(rays, samples + 1, generator=rng).cumsum(-1)
    return torch.rand(rays, samples, generator=rng) * 4, edges


def test_weights_by_hand():
    """Exclusive transmittance: the first sample is not darkened by itself."""
    weights = render_weights(torch.tensor([[2.0, 3.0]]), torch.tensor([[0.0, 0.5, 1.5]]))
    first = 1 - math.exp(-1.0)
    assert torch.allclose(weights, torch.tensor([[first, (1 - first) * (1 - math.exp(-3.0))]]))


def test_weights_and_what_passes_sum_to_one():
    density, edges = _rays()
    passes = torch.exp(-(density * edges.diff(dim=-1)).sum(-1))
    assert torch.allclose(render_weights(density, edges).sum(-1) + passes, torch.ones(40), atol=1e-6)


def test_splitting_an_interval_changes_nothing():
    density, edges = torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 1.0, 2.0]])
    split = render_weights(torch.tensor([[1.0, 2.0, 2.0]]), torch.tensor([[0.0, 1.0, 1.3, 2.0]]))
    whole = render_weights(density, edges)
    assert torch.allclose(split[:, 1:].sum(-1), whole[:, 1], atol=1e-6)


def test_a_wall_hides_what_is_behind():
    weights = render_weights(torch.tensor([[0.0, 1e9, 5.0]]), torch.tensor([[0.0, 1.0, 2.0, 3.0]]))
    assert torch.allclose(weights, torch.tensor([[0.0, 1.0, 0.0]]), atol=1e-6)


def test_kernel_agrees_with_reference():
    density, edges = _rays()
    density.requires_grad_()
    values = torch.randn(40, 17, 5, generator=torch.Generator().manual_seed(3)).requires_grad_()
    results = []
    for backend in ("torch", "numba"):
        with use_backend(backend):
            weights = render_weights(density, edges)
            total = accumulate(weights, values)
            results.append((weights, total, *torch.autograd.grad(total.square().sum(), (density, values))))
    for expected, kernel in zip(*results, strict=True):
        assert torch.allclose(expected, kernel, atol=1e-4 * float(expected.detach().abs().max()))


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_a_dense_sample_far_away_leaves_the_near_ones_alone(backend):
    """Sums that are taken apart again lose the near samples in the rounding of the far one."""
    density, edges = _rays(1)
    near = density[:, :8].clone().requires_grad_()
    far = density.clone()
    far[:, 8:] = 1e7
    far.requires_grad_()
    with use_backend(backend):
        alone = render_weights(near, edges[:, :9].contiguous())
        beside = render_weights(far, edges)
        grads = [
            torch.autograd.grad(weights[:, :8].square().sum(), leaf)[0]
            for weights, leaf in ((alone, near), (beside, far))
        ]
    assert torch.allclose(alone, beside[:, :8], rtol=1e-5)
    assert torch.allclose(grads[0], grads[1][:, :8], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_finite_at_extremes(scale):
    density, edges = _rays()
    density = (density * scale).requires_grad_()
    weights = render_weights(density, edges)
    weights.sum().backward()
    assert weights.isfinite().all()
    assert density.grad is not None
    assert density.grad.isfinite().all()


def test_reference_gradient_by_finite_differences():
    density, edges = _rays(3, 5)
    edges = edges.double()
    check = lambda d: reference.render_weights(d, edges)  # noqa: E731
    assert torch.autograd.gradcheck(check, density.double().requires_grad_())
