"""The contraction: inverse, identity inside, bounds, continuity."""

import torch

from blocknerf.geometry.contraction import contract, to_unit_cube, uncontract


def _points(scale):
    return scale * torch.randn(500, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_inverse():
    for scale in (0.1, 1.0, 30.0):
        points = _points(scale)
        assert torch.allclose(uncontract(contract(points)), points, rtol=1e-9)


def test_identity_inside_and_bounded_outside():
    points = _points(3.0)
    inside = points.abs().amax(-1) <= 1
    assert torch.equal(contract(points)[inside], points[inside])
    assert float(contract(1e9 * points).abs().max()) <= 2
    cube = to_unit_cube(contract(1e9 * points))
    assert 0 <= float(cube.min()) <= float(cube.max()) <= 1


def test_continuous_and_once_differentiable_at_the_border():
    step = 1e-6
    direction = torch.tensor([[1.0, 0.3, -0.2]], dtype=torch.float64)
    inner, border, outer = (contract(direction * length) for length in (1 - step, 1.0, 1 + step))
    slope = (torch.stack([border - inner, outer - border]) / step)[:, 0, 0]
    assert torch.allclose(slope[0], slope[1], atol=1e-5)
