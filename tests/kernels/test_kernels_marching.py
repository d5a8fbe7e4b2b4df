"""Places along rays and the proposal grid: kernels against references."""

import pytest
import torch

from blocknerf.kernels.marching import reference
from blocknerf.kernels.marching.ops import s_to_t, unit_cube_points
from blocknerf.kernels.proposal.ops import proposal_density
from blocknerf.kernels.registry import use_backend
from blocknerf.runtime import pool


def _rays(rays=25, seed=0):
    rng = torch.Generator().manual_seed(seed)
    directions = torch.nn.functional.normalize(torch.randn(rays, 3, generator=rng), dim=-1)
    return torch.randn(rays, 3, generator=rng), directions, torch.rand(rays, 13, generator=rng).cumsum(-1)


def _both(call):
    results = []
    for backend in ("torch", "numba"):
        with use_backend(backend):
            results.append(call())
    return results


@pytest.mark.parametrize("scale", [0.0, 0.3, 1.0, 4.0])
def test_distances_agree_and_end_at_near_and_far(scale):
    origins, directions, _ = _rays()
    edges_s = torch.linspace(0, 1, 33).expand(len(origins), -1).contiguous()
    ends = torch.tensor([0.02, 50.0]).expand(len(origins), 2)
    expected, kernel = _both(lambda: s_to_t(scale * origins, directions, edges_s, ends))
    assert torch.allclose(expected, kernel, rtol=1e-3, atol=1e-4)
    assert torch.allclose(kernel[:, 0], torch.tensor(0.02), atol=1e-4)
    assert torch.allclose(kernel[:, -1], torch.tensor(50.0), rtol=1e-2)
    assert bool((kernel.diff(dim=-1) > 0).all())


def test_points_agree_and_stay_in_the_cube():
    origins, directions, edges = _rays()
    expected, kernel = _both(lambda: unit_cube_points(origins, directions, 100 * edges))
    assert torch.allclose(expected, kernel, atol=1e-5)
    assert float(kernel.min()) > 0
    assert float(kernel.max()) < 1


@pytest.mark.parametrize("far", [0.05, 1.0, 100.0])
def test_gradients_of_rays_agree(far):
    """Inside the cube, across its border, and far outside."""
    origins, directions, edges = _rays()
    rays = ((0.1 * origins).requires_grad_(), directions.requires_grad_())
    cotangent = torch.randn(25, 12, 3, generator=torch.Generator().manual_seed(3))
    call = lambda: torch.autograd.grad((unit_cube_points(*rays, far * edges) * cotangent).sum(), rays)  # noqa: E731
    for expected, kernel in zip(*_both(call), strict=True):
        assert torch.allclose(expected, kernel, atol=1e-4 * float(expected.abs().max()))


def test_reference_gradients_of_rays_by_finite_differences():
    origins, directions, edges = (tensor.double() for tensor in _rays(rays=4))
    call = lambda o, d: reference.unit_cube_points(o, d, edges)  # noqa: E731
    assert torch.autograd.gradcheck(call, (origins.requires_grad_(), directions.requires_grad_()))


def test_proposal_kernel_agrees_with_reference():
    origins, directions, edges = _rays()
    grid = torch.randn(9, 9, 9, generator=torch.Generator().manual_seed(1)).requires_grad_()

    def call():
        density = proposal_density(origins, directions, edges, grid)
        return density, torch.autograd.grad(density.square().sum(), grid)[0]

    for expected, kernel in zip(*_both(call), strict=True):
        assert torch.allclose(expected, kernel, atol=1e-4 * float(expected.detach().abs().max()))


def test_a_constant_grid_is_a_constant_fog():
    origins, directions, edges = _rays()
    density = proposal_density(origins, directions, edges, torch.full((9, 9, 9), 0.7))
    assert torch.allclose(density, torch.tensor(0.7).exp().expand_as(density), rtol=1e-5)


def test_the_gradient_of_the_proposal_has_the_same_bytes_with_any_number_of_threads():
    origins, directions, edges = _rays(rays=400)
    grid = torch.randn(17, 17, 17, generator=torch.Generator().manual_seed(1)).requires_grad_(True)
    before, gradients = pool.num_threads(), []
    try:
        for threads in (1, 2, 3):
            pool.set_num_threads(threads)
            with use_backend("numba"):
                density = proposal_density(origins, directions, 2 * edges, grid)  # long ones, as to the horizon
                gradients += torch.autograd.grad(density.square().sum(), grid)
    finally:
        pool.set_num_threads(before)
    assert all(torch.equal(gradients[0], gradient) for gradient in gradients[1:])
