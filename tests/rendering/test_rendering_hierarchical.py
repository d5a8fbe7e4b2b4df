"""Coarse and fine sampling of one field, with analytic fields."""

import math

import pytest
import torch

from blocknerf.core.seeds import generator
from blocknerf.kernels.registry import use_backend
from blocknerf.rendering.hierarchical import EVERYWHERE, composite_coarse_and_fine, spread
from blocknerf.rendering.volume import RaySamplingConfig

SPACING = RaySamplingConfig(near=0.05, far=20.0, num_coarse=64, num_fine=48)
RED = torch.tensor([1.0, 0.25, 0.0])


def _rays(count=10):
    directions = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator(0, "rays")), dim=-1)
    return torch.zeros(count, 3), directions


def _field(density_at):
    """A field of one colour whose density depends on distance alone; remembers where it was asked."""
    asked = []

    def field(edges):
        asked.append(edges)
        density = density_at(0.5 * (edges[:, 1:] + edges[:, :-1]))
        return density, RED.expand(*density.shape, 3)

    return field, asked


def _wall(distance):
    return torch.where(distance > 3.0, 200.0, 0.0)


@pytest.mark.parametrize("density", [0.01, 0.5])
@pytest.mark.parametrize("hierarchical", [True, False])
def test_fog_has_the_opacity_of_beer_and_lambert_in_both_passes(density, hierarchical):
    field, asked = _field(lambda distance: torch.full_like(distance, density))
    out = composite_coarse_and_fine(*_rays(), SPACING, field, hierarchical=hierarchical)
    expected = torch.full((10,), 1 - math.exp(-density * (20.0 - 0.05)))
    assert torch.allclose(out.proposal_weights.sum(-1), expected, atol=1e-5)
    assert torch.allclose(out.opacity, expected, atol=1 / (SPACING.num_fine + 1) if hierarchical else 1e-5)
    assert torch.allclose(out.features, out.opacity[:, None] * RED, atol=1e-5)
    assert len(asked) == 1 + hierarchical
    assert (out.coarse_rgb is not None) == hierarchical


def test_the_second_pass_looks_where_the_first_one_saw_matter():
    field, asked = _field(_wall)
    out = composite_coarse_and_fine(*_rays(), SPACING, field)
    near_wall = [((edges > 2.5) & (edges < 3.5)).double().mean() for edges in asked]
    assert near_wall[1] > 4 * near_wall[0]
    assert torch.allclose(out.distance, torch.full((10,), 3.0), atol=0.12)
    assert out.coarse_rgb is not None
    assert torch.allclose(out.coarse_rgb, RED.expand(10, 3), atol=0.02)


def test_on_white_what_is_not_opaque_is_white_in_both_passes():
    field, _ = _field(lambda distance: torch.zeros_like(distance))
    out = composite_coarse_and_fine(*_rays(), SPACING, field, white_background=True)
    for rgb in (out.features, out.coarse_rgb):
        assert rgb is not None
        assert torch.equal(rgb, torch.ones(10, 3))


def test_weights_to_sample_from_are_an_envelope():
    weights = torch.rand(20, 33, generator=generator(0, "weights")) / 33
    wider = spread(weights)
    assert bool((wider - EVERYWHERE >= 0.5 * weights).all())
    assert bool((wider >= EVERYWHERE).all())
    peak = torch.zeros(1, 7)
    peak[0, 3] = 1.0
    assert torch.allclose(spread(peak) - EVERYWHERE, torch.tensor([[0, 0, 0.5, 1, 0.5, 0, 0]]))


def test_samples_are_reproducible_and_moved_by_the_generator():
    field, _ = _field(_wall)
    one, same, other = (
        composite_coarse_and_fine(*_rays(), SPACING, field, generator(seed, "jitter")).edges for seed in (1, 1, 2)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_numba_and_torch_agree():
    field, _ = _field(_wall)
    fast = composite_coarse_and_fine(*_rays(), SPACING, field)
    with use_backend("torch"):
        plain = composite_coarse_and_fine(*_rays(), SPACING, field)
    assert torch.allclose(fast.features, plain.features, atol=1e-4)
    assert torch.allclose(fast.edges, plain.edges, rtol=1e-3)
