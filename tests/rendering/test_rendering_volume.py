"""One ray to one pixel, with analytic fields."""

import math
from dataclasses import replace

import pytest
import torch

from blocknerf.kernels.compositing.ops import render_weights
from blocknerf.rendering.quality import psnr
from blocknerf.rendering.volume import (
    ASKED_ANYWAY,
    RaySamplingConfig,
    composite_rays,
    scale_near_gradients,
    stratified_edges,
    transmittance,
)

SPACING = RaySamplingConfig(near=0.05, far=20.0, num_coarse=64, num_fine=48)


def _rays(count=10):
    rng = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(count, 3, generator=rng), dim=-1)
    return torch.zeros(count, 3), directions


def _fog(density):
    """Constant fog whose only feature is one."""
    proposal = lambda o, d, edges: torch.full((o.shape[0], edges.shape[1] - 1), density)  # noqa: E731

    def field(points):
        return torch.full(points.shape[:2], density), torch.ones(*points.shape[:2], 1)

    return proposal, field


@pytest.mark.parametrize("density", [0.01, 0.5])
def test_fog_has_the_opacity_of_beer_and_lambert(density):
    origins, directions = _rays()
    out = composite_rays(origins, directions, SPACING, *_fog(density))
    passed = math.exp(-density * (20.0 - 0.05))
    outside = 1 / (SPACING.num_fine + 1)  # share of the proposal's weight before the first and behind the last edge
    assert torch.allclose(out.opacity, torch.full((10,), 1 - passed), atol=outside)
    assert torch.allclose(out.features[:, 0], out.opacity)


def test_a_sphere_is_found_where_it_stands():
    """Opaque beyond distance 3 from the origin: the expected distance is 3 within a fine interval."""
    origins, directions = _rays()

    def density_at(distance):
        return torch.where(distance > 3.0, 200.0, 0.0)

    def proposal(o, d, edges):
        return density_at(0.5 * (edges[:, 1:] + edges[:, :-1]))

    def field(points):
        from blocknerf.geometry.contraction import uncontract

        distance = uncontract((points - 0.5) * 4).norm(dim=-1)
        return density_at(distance), torch.ones(*points.shape[:2], 1)

    out = composite_rays(origins, directions, SPACING, proposal, field)
    assert torch.allclose(out.distance, torch.full((10,), 3.0), atol=0.12)
    assert bool((out.opacity > 0.99).all())


def test_transmittance_is_the_exclusive_product():
    rng = torch.Generator().manual_seed(3)
    density, edges = 9 * torch.rand(20, 12, generator=rng), torch.rand(20, 13, generator=rng).cumsum(-1)
    alpha = 1 - torch.exp(-density * edges.diff(dim=-1))
    arriving = transmittance(render_weights(density, edges))
    assert torch.equal(arriving[:, 0], torch.ones(20))
    assert torch.allclose(arriving[:, 1:], (1 - alpha).cumprod(-1)[:, :-1], atol=1e-6)


def test_stratified_edges_ascend_and_keep_their_ends():
    edges = stratified_edges(200, 16, torch.Generator().manual_seed(0))
    assert bool((edges.diff(dim=-1) > 0).all())
    assert torch.equal(edges[:, 0], torch.zeros(200))
    assert torch.equal(edges[:, -1], torch.ones(200))
    assert torch.equal(stratified_edges(2, 16, None)[0], torch.linspace(0, 1, 17))


def test_psnr_of_a_known_error():
    truth = torch.full((4, 5, 3), 0.5)
    assert psnr(truth + 0.1, truth) == pytest.approx(20.0, abs=1e-4)
    valid = torch.zeros(4, 5, dtype=torch.bool)
    valid[0, 0] = True
    wrong_elsewhere = truth + 0.4
    wrong_elsewhere[0, 0] = 0.51
    assert psnr(wrong_elsewhere, truth, valid) == pytest.approx(40.0, abs=1e-3)
    assert psnr(truth + 9, truth) == pytest.approx(-20 * math.log10(0.5), abs=1e-4), "renders are clamped"
    with pytest.raises(ValueError, match="no valid pixel"):
        psnr(truth, truth, torch.zeros(4, 5, dtype=torch.bool))


def test_near_samples_keep_their_values_and_get_the_gradient_by_the_square_of_their_distance():
    density = torch.rand(7, 5, dtype=torch.float64, requires_grad=True)
    features = torch.rand(7, 5, 3, dtype=torch.float64, requires_grad=True)
    edges = torch.rand(7, 6, dtype=torch.float64).cumsum(-1)
    scaled = scale_near_gradients(density, features, edges, 1.5)
    assert torch.equal(scaled[0], density)
    assert torch.equal(scaled[1], features)
    (scaled[0].sum() + scaled[1].sum()).backward()
    middles = 0.5 * (edges[:, 1:] + edges[:, :-1])
    shares = torch.where(middles < 1.5, (middles / 1.5) ** 2, 1.0)
    assert 0 < int((middles < 1.5).sum()) < middles.numel()
    assert density.grad is not None
    assert features.grad is not None
    assert torch.allclose(density.grad, shares)
    assert torch.allclose(features.grad, shares[..., None].expand(-1, -1, 3))


def test_a_camera_in_even_fog_does_not_thicken_the_fog_before_it():
    """The rays of a camera are densest near it, by the inverse square of the distance; the gradients make up for it."""
    origins, directions = _rays(200)
    raw = torch.zeros(200, SPACING.num_fine, requires_grad=True)
    proposal, _ = _fog(0.05)

    def field(points):
        return 0.05 + raw, torch.ones(*points.shape[:2], 1)

    def gradients(full_from):
        out = composite_rays(origins, directions, SPACING, proposal, field, full_gradient_from=full_from)
        raw.grad = None
        out.opacity.sum().backward()
        middles = 0.5 * (out.edges[:, 1:] + out.edges[:, :-1])
        per_length = raw.grad / out.edges.diff(dim=-1)
        return middles, per_length

    middles, full = gradients(0.0)
    _, scaled = gradients(10.0)
    near = middles < 10.0
    assert torch.allclose(scaled[near], full[near] * (middles[near] / 10.0) ** 2, rtol=1e-4)
    assert torch.equal(scaled[~near], full[~near])


BOUNDED = replace(SPACING, far=100.0, bounded=True)


def _half_ball():
    """Thick fog in the ball of radius 0.5, known to the proposal; the field counts the points that it is asked for."""
    asked = []

    def density_at(points):
        return torch.where(points.norm(dim=-1) < 0.5, 40.0, 0.0)

    def proposal(origins, directions, edges):
        middles = 0.5 * (edges[:, 1:] + edges[:, :-1])
        return density_at(origins[:, None] + middles[..., None] * directions[:, None])

    def field(points):
        asked.append(len(points))
        density = density_at((points - 0.5) * 4)
        return density, torch.ones(*points.shape[:2], 2)

    return proposal, field, asked


def _towards_the_ball(count=400):
    """From 5 radii away, to the unit ball and a little past it."""
    rng = torch.Generator().manual_seed(1)
    origins = 5 * torch.nn.functional.normalize(torch.randn(count, 3, generator=rng), dim=-1)
    targets = 1.2 * torch.nn.functional.normalize(torch.randn(count, 3, generator=rng), dim=-1)
    return origins, torch.nn.functional.normalize(targets - origins, dim=-1)


def test_rays_that_the_proposal_calls_empty_are_not_asked_and_the_picture_is_the_same():
    origins, directions = _towards_the_ball()
    proposal, field, asked = _half_ball()
    with torch.no_grad():
        out = composite_rays(origins, directions, BOUNDED, proposal, field)
        fewer, asked[:] = asked[0], []
    everything = composite_rays(origins, directions, BOUNDED, proposal, field)
    assert asked == [400]
    assert 20 < fewer < 200
    assert torch.allclose(out.opacity, everything.opacity, atol=2e-3)
    assert torch.allclose(out.features, everything.features, atol=2e-3)
    assert bool((out.edges.diff(dim=-1) > 0).all())
    hits = out.opacity > 0.99
    middles = origins[hits] + out.distance[hits, None] * directions[hits]
    assert torch.allclose(middles.norm(dim=-1), torch.tensor(0.5), atol=0.1)


def test_an_eighth_of_the_rays_that_seem_empty_is_asked_in_training_and_teaches_the_field():
    origins, directions = _towards_the_ball(4000)
    nothing = lambda o, d, edges: torch.zeros(o.shape[0], edges.shape[1] - 1)  # noqa: E731
    density = torch.ones((), requires_grad=True)

    def field(points):
        return density * torch.ones(points.shape[:2]), torch.ones(*points.shape[:2], 1)

    out = composite_rays(origins, directions, BOUNDED, nothing, field, torch.Generator().manual_seed(2))
    asked = out.opacity > 0
    assert float(asked.float().mean()) == pytest.approx(ASKED_ANYWAY, abs=0.02)
    out.opacity.sum().backward()
    assert density.grad is not None
    assert float(density.grad) > 0


def test_where_outside_of_the_ball_a_camera_stands_changes_nothing():
    origins, directions = _towards_the_ball()
    proposal, field, _ = _half_ball()
    near = composite_rays(origins, directions, BOUNDED, proposal, field)
    far = composite_rays(origins - 30 * directions, directions, BOUNDED, proposal, field)
    assert torch.allclose(near.opacity, far.opacity, atol=1e-3)
    hits = near.opacity > 0.99
    assert torch.allclose(near.distance[hits] + 30, far.distance[hits], atol=1e-3)
