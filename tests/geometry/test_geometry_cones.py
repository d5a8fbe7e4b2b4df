"""Conical frusta as Gaussians: against points drawn in cones, in their limits, and through the contraction."""

import pytest
import torch
from torch import Tensor

from blocknerf.core.seeds import generator
from blocknerf.geometry.cones import contracted_frustum_gaussians, frustum_moments
from blocknerf.geometry.contraction import contract, contraction_jacobian

DRAWN = 400_000


def points_in_frustum(origin: Tensor, direction: Tensor, radius: float, near: float, far: float) -> Tensor:
    """Uniform in volume: distance has density t^2, the disc at t has radius t `radius`."""
    rng = generator(0, "frustum")
    u, v, angle = torch.rand(3, DRAWN, generator=rng, dtype=torch.float64)
    distance = (near**3 + u * (far**3 - near**3)) ** (1 / 3)
    across = distance * radius * v.sqrt()
    helper = torch.tensor([0.3, -0.5, 0.8], dtype=torch.float64)
    one = torch.nn.functional.normalize(torch.linalg.cross(direction, helper), dim=0)
    other = torch.linalg.cross(direction, one)
    angle = 2 * torch.pi * angle
    disc = angle.cos()[:, None] * one + angle.sin()[:, None] * other
    return origin + distance[:, None] * direction + across[:, None] * disc


def one_ray(x: float, y: float, z: float) -> tuple[Tensor, Tensor]:
    direction = torch.nn.functional.normalize(torch.tensor([x, y, z], dtype=torch.float64), dim=0)
    return torch.tensor([0.1, -0.2, 0.3], dtype=torch.float64), direction


def frustum_gaussians(origins, directions, radii, edges):
    """Means and variances by axis, without a contraction (mip-NeRF, equations 8 and 16)."""
    distance, along, across = frustum_moments(edges, radii)
    means = origins[:, None] + distance[..., None] * directions[:, None]
    squares = directions.square()[:, None]
    return means, along[..., None] * squares + across[..., None] * (1 - squares)


@pytest.mark.parametrize(
    ("radius", "near", "far"), [(0.2, 0.5, 0.7), (0.5, 0.0, 1.0), (0.01, 2.0, 5.0), (1.5, 0.1, 0.2)]
)
def test_moments_are_those_of_points_drawn_in_the_frustum(radius, near, far):
    origin, direction = one_ray(0.2, -0.7, 0.5)
    points = points_in_frustum(origin, direction, radius, near, far)
    edges = torch.tensor([[near, far]], dtype=torch.float64)
    means, variances = frustum_gaussians(origin[None], direction[None], torch.tensor([radius]).double(), edges)
    spread = variances[0, 0].sum().sqrt()
    assert torch.allclose(means[0, 0], points.mean(0), atol=float(0.01 * spread))
    assert torch.allclose(variances[0, 0], points.var(0), rtol=0.02)


def test_moments_of_a_frustum_cut_in_two_are_the_mixture_of_its_parts():
    """Mean and variance of the whole follow from those of the halves, weighted by volume."""
    edges, radii = torch.tensor([[0.3, 0.8, 1.7]]).double(), torch.tensor([0.4]).double()
    mean, along, across = frustum_moments(edges, radii)
    whole_mean, whole_along, whole_across = frustum_moments(edges[:, ::2], radii)
    share = edges.pow(3).diff(dim=-1) / (edges[:, -1:] ** 3 - edges[:, :1] ** 3)
    mixed = (share * mean).sum(-1, keepdim=True)
    assert torch.allclose(whole_mean, mixed)
    assert torch.allclose(whole_along, (share * (along + (mean - mixed).square())).sum(-1, keepdim=True))
    assert torch.allclose(whole_across, (share * across).sum(-1, keepdim=True))


def test_thin_frusta_lose_no_digits_in_float32():
    edges = (100 + 1e-3 * torch.arange(4, dtype=torch.float32))[None]
    mean, along, _ = frustum_moments(edges, torch.tensor([1e-3]))
    widths = edges.double().diff(dim=-1)
    assert bool((mean > edges[:, :-1]).all())
    assert bool((mean < edges[:, 1:]).all())
    assert torch.allclose(along.double(), widths.square() / 12, rtol=1e-3)


def test_a_frustum_of_no_length_at_the_eye_is_a_point():
    for moment in frustum_moments(torch.zeros(1, 3), torch.tensor([0.1])):
        assert torch.equal(moment, torch.zeros(1, 2))


def test_without_a_radius_there_is_no_variance_across():
    origin, direction = one_ray(0, 0, 1)
    edges = torch.tensor([[0.5, 1.0, 3.0]]).double()
    _, variances = frustum_gaussians(origin[None], direction[None], torch.zeros(1).double(), edges)
    assert torch.equal(variances[..., :2], torch.zeros(1, 2, 2, dtype=torch.float64))
    assert bool((variances[..., 2] > 0).all())


def test_the_jacobian_is_the_derivative_of_the_contraction():
    points = 3 * torch.randn(40, 3, generator=generator(0, "points"), dtype=torch.float64)
    for point in points:
        derivative = torch.autograd.functional.jacobian(contract, point)
        assert torch.allclose(contraction_jacobian(point), derivative), point


def test_inside_the_block_the_contraction_changes_nothing():
    origin, direction = one_ray(0.3, 0.3, -0.2)
    arguments = origin[None], direction[None], torch.tensor([0.1]).double(), torch.tensor([[0.1, 0.3, 0.6]]).double()
    for seen, plain in zip(contracted_frustum_gaussians(*arguments), frustum_gaussians(*arguments), strict=True):
        assert torch.allclose(seen, plain)


@pytest.mark.parametrize("near", [1.5, 6.0, 40.0])
def test_outside_the_gaussian_is_that_of_contracted_points(near):
    """Of a frustum small enough for the contraction to be straight within it."""
    origin, direction = one_ray(0.9, -0.4, 0.3)
    radius, far = 0.01, 1.03 * near
    points = contract(points_in_frustum(origin, direction, radius, near, far))
    edges = torch.tensor([[near, far]], dtype=torch.float64)
    arguments = origin[None], direction[None], torch.tensor([radius]).double(), edges
    means, variances = contracted_frustum_gaussians(*arguments)
    assert torch.allclose(means[0, 0], points.mean(0), atol=1e-3)
    assert torch.allclose(variances[0, 0], points.var(0), rtol=0.06)


def test_gradients_to_the_rays_in_float64():
    rng = generator(0, "rays")
    origins = torch.randn(3, 3, generator=rng, dtype=torch.float64, requires_grad=True)
    directions = torch.randn(3, 3, generator=rng, dtype=torch.float64, requires_grad=True)
    radii = torch.full((3,), 0.05, dtype=torch.float64, requires_grad=True)
    edges = torch.tensor([0.1, 0.5, 1.1, 4.0]).double().expand(3, -1)
    assert torch.autograd.gradcheck(
        lambda *rays: contracted_frustum_gaussians(*rays, edges), (origins, directions, radii)
    )
