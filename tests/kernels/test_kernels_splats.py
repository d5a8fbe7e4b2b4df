"""Splats on the picture plane: laws of blending, gradients of the reference, and the kernel against the reference."""

import math

import pytest
import torch

from blocknerf.kernels.registry import use_backend
from blocknerf.kernels.splats import reference
from blocknerf.kernels.splats.ops import rasterize
from blocknerf.kernels.splats.reference import LEAST_ALPHA, MOST_ALPHA
from blocknerf.runtime.pool import num_threads, set_num_threads
from tests.support.reference import compare

WIDTH, HEIGHT = 23, 17


def _made(count: int, dtype=torch.float32, seed: int = 0, largest_px: float = 4.0) -> tuple[torch.Tensor, ...]:
    """Centres in and around the picture, ellipses of all shapes, opacities up to 1."""
    rng = torch.Generator().manual_seed(seed)
    uniform = torch.rand(count, 9, generator=rng, dtype=torch.float64)
    centers = uniform[:, :2] * torch.tensor([WIDTH + 8, HEIGHT + 8]) - 4
    angle, sizes = math.pi * uniform[:, 2], 0.6 + (largest_px - 0.6) * uniform[:, 3:5]
    axes = torch.stack([torch.stack([angle.cos(), -angle.sin()], -1), torch.stack([angle.sin(), angle.cos()], -1)], 1)
    conic = axes @ torch.diag_embed(sizes**-2) @ axes.mT
    conics = torch.stack([conic[:, 0, 0], conic[:, 0, 1], conic[:, 1, 1]], -1)
    parts = (centers, conics, uniform[:, 5:8], uniform[:, 8])
    return tuple(part.to(dtype).requires_grad_() for part in parts)


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_one_splat_is_a_gaussian(backend):
    conics = torch.tensor([[0.2, 0.05, 0.1]])
    with use_backend(backend):
        picture = rasterize(
            torch.tensor([[10.5, 8.5]]), conics, torch.tensor([[0.2, 0.4, 0.8]]), torch.tensor([0.7]), WIDTH, HEIGHT
        )
    for x, y in ((10, 8), (12, 8), (9, 11), (13, 6)):
        dx, dy = x - 10, y - 8
        alpha = 0.7 * math.exp(-0.1 * dx * dx - 0.05 * dy * dy - 0.05 * dx * dy)
        expected = torch.tensor([0.2, 0.4, 0.8, 1.0]) * alpha
        torch.testing.assert_close(picture[:, y, x], expected, atol=1e-6, rtol=1e-5)
    visible = picture[3][picture[3] > 0]
    assert LEAST_ALPHA <= visible.min() < 0.02  # cut off where it no longer shows, not before


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_the_first_hides_what_is_behind(backend):
    centers, conics = torch.full((3, 2), 8.5), torch.tensor([[1e-4, 0.0, 1e-4]]).repeat(3, 1)
    opacities = torch.tensor([0.5, 1.0, 1.0])
    with use_backend(backend):
        picture = rasterize(centers, conics, torch.eye(3), opacities, WIDTH, HEIGHT)[:, 8, 8]
    expected = [0.5, 0.5 * MOST_ALPHA, 0.5 * (1 - MOST_ALPHA) * MOST_ALPHA]
    torch.testing.assert_close(picture, torch.tensor([*expected, sum(expected)]))


def test_what_has_no_kernel_for_cuda_runs_the_reference():
    made = _made(5)
    with use_backend("triton"):
        assert torch.equal(rasterize(*made, WIDTH, HEIGHT), reference.rasterize(*made, WIDTH, HEIGHT))


def test_gradients_of_the_reference():
    made = _made(6, torch.float64, seed=3)

    def picture(*parts):
        return reference.rasterize(*parts, 7, 6)

    small = [part.detach().clone() for part in made]
    small[0].copy_(small[0] * 0.3 + 1)
    assert torch.autograd.gradcheck(picture, [part.requires_grad_() for part in small], atol=1e-6)


@pytest.mark.parametrize(("count", "largest_px"), [(1, 4.0), (40, 4.0), (400, 2.0), (60, 40.0)])
def test_the_kernel_is_its_reference(count, largest_px):
    made = _made(count, seed=count, largest_px=largest_px)
    upstream = torch.rand(4, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1)) - 0.3

    def picture_and_gradients():
        picture = rasterize(*made, WIDTH, HEIGHT)
        return [picture.detach(), *torch.autograd.grad(picture, made, upstream)]

    compare(picture_and_gradients, "numba", tolerance=2e-4)


def test_splats_outside_and_unseen_ones_show_nothing():
    centers = torch.tensor([[-90.0, 5.0], [5.0, 500.0], [5.0, 5.0]])
    opacities = torch.tensor([0.9, 0.9, 1e-4])
    conics = torch.tensor([[1.0, 0.0, 1.0]]).repeat(3, 1).requires_grad_()
    picture = rasterize(centers, conics, torch.ones(3, 3), opacities, WIDTH, HEIGHT)
    assert not picture.any()
    picture.sum().backward()
    assert conics.grad is not None
    assert not conics.grad.any()
    assert not rasterize(centers[:0], conics[:0], torch.ones(0, 3), opacities[:0], WIDTH, HEIGHT).any()


def test_the_number_of_threads_changes_no_bit():
    made = _made(300, seed=9)

    def run():
        picture = rasterize(*made, WIDTH, HEIGHT)
        return [picture.detach(), *torch.autograd.grad(picture.square().sum(), made)]

    most = num_threads()
    alone = run()
    set_num_threads(2)
    together = run()
    set_num_threads(most)
    assert all(torch.equal(one, other) for one, other in zip(alone, together, strict=True))
