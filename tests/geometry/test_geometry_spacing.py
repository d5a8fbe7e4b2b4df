"""The coordinate of samples along a ray: the integral it stands for, its inverse, its limits."""

import torch

from blocknerf.geometry.spacing import (
    SHORTEST,
    closest_approach,
    distance_from_spacing,
    ends_in_ball,
    share_from_distance,
    spacing_from_distance,
)
from blocknerf.kernels.marching.reference import s_to_t


def _rays(scale, count=40):
    rng = torch.Generator().manual_seed(3)
    directions = torch.nn.functional.normalize(torch.randn(count, 3, generator=rng, dtype=torch.float64), dim=-1)
    return scale * torch.randn(count, 3, generator=rng, dtype=torch.float64), directions


def test_it_is_the_path_through_contracted_space():
    """Its slope is 1 within the unit ball and 1 / |x|^2 outside, for rays from anywhere."""
    for scale in (0.1, 1.0, 5.0):
        origins, directions = _rays(scale)
        t_closest, impact_parameter = closest_approach(origins, directions)
        distance = torch.linspace(0.01, 12, 4001, dtype=torch.float64).expand(len(origins), -1)
        middles = 0.5 * (distance[:, 1:] + distance[:, :-1])
        radius = (origins[:, None] + middles[..., None] * directions[:, None]).norm(dim=-1)
        slope = spacing_from_distance(distance, t_closest, impact_parameter).diff(dim=-1) / distance.diff(dim=-1)
        assert torch.allclose(slope, 1 / radius.clamp(min=1).square(), rtol=1e-2)


def test_it_is_invertible():
    for scale in (1e-9, 0.5, 1.0, 30.0):
        t_closest, impact_parameter = closest_approach(*_rays(scale))
        distance = torch.logspace(-3, 3, 200, dtype=torch.float64).expand(len(t_closest), -1)
        spacing = spacing_from_distance(distance, t_closest, impact_parameter)
        assert bool((spacing.diff(dim=-1) > 0).all())
        assert torch.allclose(
            distance_from_spacing(spacing, t_closest, impact_parameter), distance, rtol=1e-6, atol=1e-9
        )


def test_from_the_centre_it_is_distance_and_then_disparity():
    origins, directions = _rays(0.0)
    distance = torch.tensor([[0.2, 1.0, 2.0, 10.0]], dtype=torch.float64).expand(len(origins), -1)
    spacing = spacing_from_distance(distance, *closest_approach(origins, directions))
    assert torch.allclose(spacing[0], torch.tensor([0.2, 1.0, 1.5, 1.9], dtype=torch.float64), atol=1e-5)


def test_shares_of_a_ray_are_the_inverse_of_its_places():
    """For rays that begin inside of the block and outside."""
    for scale in (0.01, 0.5, 3.0, 20.0):
        origins, directions = _rays(scale)
        ends = torch.tensor([0.05, 60.0], dtype=torch.float64) * torch.linspace(0.5, 2, len(origins))[:, None]
        shares = torch.linspace(0, 1, 65, dtype=torch.float64).expand(len(origins), -1)
        distance = s_to_t(origins, directions, shares, ends)
        found = share_from_distance(distance, origins, directions, ends)
        assert torch.allclose(found, shares, atol=1e-7)
        assert torch.allclose(s_to_t(origins, directions, found, ends), distance, rtol=1e-6)
        assert bool((found.diff(dim=-1) > 0).all())


def test_shares_reach_beyond_both_ends():
    origins, directions = _rays(2.0)
    distance = torch.tensor([[0.1, 0.5, 9.0, 30.0]], dtype=torch.float64).expand(len(origins), -1)
    ends = torch.tensor([0.5, 9.0], dtype=torch.float64).expand(len(origins), 2)
    shares = share_from_distance(distance, origins, directions, ends)
    assert torch.allclose(shares[:, 1:3], torch.tensor([0.0, 1.0], dtype=torch.float64))
    assert bool((shares[:, 0] < 0).all())
    assert bool((shares[:, 3] > 1).all())


def test_rays_begin_and_end_on_the_ball_or_at_the_camera_in_it():
    for scale in (0.1, 0.6, 4.0):
        origins, directions = _rays(scale, count=400)
        enters, leaves = ends_in_ball(origins, directions, 0.05, 60.0).unbind(-1)
        t_closest, impact_parameter = (values[:, 0] for values in closest_approach(origins, directions))
        meets = (impact_parameter < 0.999) & (t_closest + (1 - impact_parameter.square()).clamp(min=0).sqrt() > 0.06)
        assert bool(meets.any())
        away = [(origins + t[:, None] * directions).norm(dim=-1) for t in (enters, leaves)]
        outside = origins.norm(dim=-1) > 1.05
        assert torch.allclose(away[0][meets & outside], torch.ones((), dtype=torch.float64))
        assert torch.allclose(away[1][meets], torch.ones((), dtype=torch.float64))
        inside = (origins + 0.05 * directions).norm(dim=-1) < 1
        assert torch.equal(enters[inside], torch.full_like(enters[inside], 0.05))
        assert torch.allclose((leaves - enters)[~meets & outside], torch.tensor(SHORTEST, dtype=torch.float64))


def test_rays_in_a_ball_keep_to_near_and_far():
    origins, directions = _rays(0.1)
    ends = ends_in_ball(origins, directions, 0.2, 0.4)
    assert torch.equal(ends, torch.tensor([0.2, 0.4], dtype=torch.float64).expand(len(origins), 2))
