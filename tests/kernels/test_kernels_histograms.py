"""Histograms along rays: laws, brute force, kernel against reference."""

import pytest
import torch

from blocknerf.kernels.histograms.ops import distortion_loss, interlevel_loss, resample
from blocknerf.kernels.registry import use_backend

BACKENDS = ("torch", "numba")


def _histogram(rays=30, bins=16, seed=0):
    rng = torch.Generator().manual_seed(seed)
    inner = torch.rand(rays, bins - 1, generator=rng).sort(-1).values
    edges = torch.nn.functional.pad(torch.nn.functional.pad(inner, (1, 0)), (0, 1), value=1.0)
    return edges, torch.rand(rays, bins, generator=rng) / bins


@pytest.mark.parametrize("backend", BACKENDS)
def test_resampling_a_flat_histogram_is_even(backend):
    edges = torch.linspace(0, 1, 9).expand(4, -1).contiguous()
    with use_backend(backend):
        out = resample(edges, torch.full((4, 8), 0.125), 7)
    assert torch.allclose(out, ((torch.arange(8) + 0.5) / 8).expand(4, -1), atol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_resampling_follows_the_weights(backend):
    """Nearly all quantiles fall into the one heavy bin, and none leaves the histogram."""
    edges, weights = _histogram(bins=10)
    weights = torch.zeros_like(weights)
    weights[:, 4] = 1
    with use_backend(backend):
        out = resample(edges, weights, 63, torch.rand(30, generator=torch.Generator().manual_seed(1)))
    inside = (out >= edges[:, 4:5]) & (out <= edges[:, 5:6])
    assert inside.float().mean() > 0.95
    assert (out.diff(dim=-1) >= 0).all()
    assert float(out.min()) >= 0
    assert float(out.max()) <= 1


def test_resampling_is_unbiased():
    """Over all jitters the share of edges in a bin is its share of the (padded) weight."""
    edges, weights = _histogram(rays=1, bins=5)
    jitter = torch.linspace(0, 1, 4001)[:-1]
    out = resample(edges.expand(4000, -1).contiguous(), weights.expand(4000, -1).contiguous(), 9, jitter)
    padded = weights[0] + 0.01 / 5
    counts = torch.histogram(out.flatten(), edges[0]).hist / out.numel()
    assert torch.allclose(counts, padded / padded.sum(), atol=2e-3)


def test_resample_kernel_agrees_with_reference():
    edges, weights = _histogram()
    jitter = torch.rand(30, generator=torch.Generator().manual_seed(1))
    with use_backend("torch"):
        expected = resample(edges, weights, 24, jitter)
    assert torch.allclose(expected, resample(edges, weights, 24, jitter), atol=2e-5)


def test_a_proposal_that_covers_costs_nothing():
    edges, weights = _histogram()
    fine_edges, fine_weights = _histogram(bins=40, seed=1)
    assert float(interlevel_loss(edges, torch.ones_like(weights), fine_edges, fine_weights)) == 0
    assert float(interlevel_loss(edges, torch.zeros_like(weights), fine_edges, fine_weights)) > 0


def test_interlevel_by_brute_force():
    edges, weights = _histogram(rays=6, bins=5)
    fine_edges, fine_weights = _histogram(rays=6, bins=11, seed=1)
    total = 0.0
    for r in range(6):
        for n in range(11):
            touches = (edges[r, :-1] < fine_edges[r, n + 1]) & (edges[r, 1:] > fine_edges[r, n])
            missed = max(0.0, float(fine_weights[r, n] - weights[r, touches].sum()))
            total += missed**2 / (float(fine_weights[r, n]) + 1e-7)
    assert float(interlevel_loss(edges, weights, fine_edges, fine_weights)) == pytest.approx(total / 6, rel=1e-4)


def test_distortion_by_integration():
    """Equation 15 of mip-NeRF 360 is the mean distance of two points drawn from the step function."""
    edges, weights = _histogram(rays=1, bins=4)
    places = torch.linspace(0, 1, 2001)[:-1] + 0.00025
    bins = (torch.searchsorted(edges[0], places, right=True) - 1).clamp(0, 3)
    density = weights[0, bins] / edges[0].diff()[bins] * 0.0005
    integral = (density[:, None] * density[None] * (places[:, None] - places[None]).abs()).sum()
    assert float(distortion_loss(edges, weights)) == pytest.approx(float(integral), rel=1e-2)


def test_losses_agree_with_references():
    edges, weights = _histogram()
    fine_edges, fine_weights = _histogram(bins=24, seed=1)
    for loss in (
        lambda w: interlevel_loss(edges, w[:, :16], fine_edges, fine_weights),
        lambda w: distortion_loss(edges, w[:, :16]),
    ):
        results = []
        for backend in BACKENDS:
            leaf = weights.clone().requires_grad_()
            with use_backend(backend):
                value = loss(leaf)
                results.append((value, *torch.autograd.grad(value, leaf)))
        for expected, kernel in zip(*results, strict=True):
            assert torch.allclose(expected, kernel, atol=1e-5 * float(expected.detach().abs().max()))


def test_the_field_is_the_teacher():
    """No gradient of the interlevel term reaches the fine weights."""
    edges, weights = _histogram()
    fine = weights.clone().requires_grad_()
    loss = interlevel_loss(edges, torch.zeros_like(weights).requires_grad_(), edges, fine)
    loss.backward()
    assert fine.grad is None
