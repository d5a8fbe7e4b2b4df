"""Rotations and rigid motions: groups and their logarithms, near 0 and near pi, gradients by finite differences."""

import pytest
import torch

from blocknerf.core.seeds import generator
from blocknerf.geometry import se3, so3

ANGLES = (0.0, 1e-12, 1e-6, 9.9e-3, 1.1e-2, 0.5, 2.0, torch.pi - 1e-6, torch.pi)


def _axes(count: int, seed: int = 0) -> torch.Tensor:
    return torch.nn.functional.normalize(
        torch.randn(count, 3, generator=generator(seed, "axes"), dtype=torch.float64), dim=-1
    )


def _motions(count: int, seed: int) -> torch.Tensor:
    rng = generator(seed, "motions")
    return se3.exp(torch.randn(count, 6, generator=rng, dtype=torch.float64))


@pytest.mark.parametrize("angle", ANGLES)
def test_exp_gives_rotations_and_log_gives_them_back(angle):
    vectors = angle * _axes(50)
    rotations = so3.exp(vectors)
    assert torch.allclose(rotations @ rotations.mT, torch.eye(3).double(), atol=1e-14)
    assert torch.allclose(torch.linalg.det(rotations), torch.ones(50).double())
    assert torch.allclose(torch.linalg.vector_norm(so3.log(rotations), dim=-1), torch.full((50,), angle).double())
    assert torch.allclose(so3.exp(so3.log(rotations)), rotations, atol=1e-12)
    if angle < 3.1:
        assert torch.allclose(so3.log(rotations), vectors, atol=1e-14, rtol=1e-9)


def test_exp_is_the_matrix_exponential():
    vectors = 1.3 * _axes(20)
    assert torch.allclose(so3.exp(vectors), torch.linalg.matrix_exp(so3.hat(vectors)), atol=1e-13)
    twists = torch.cat([_axes(20, 1), vectors], -1)
    generators = torch.zeros(20, 4, 4).double()
    generators[:, :3, :3], generators[:, :3, 3] = so3.hat(vectors), twists[:, :3]
    assert torch.allclose(se3.exp(twists), torch.linalg.matrix_exp(generators)[:, :3], atol=1e-13)


def test_turning_the_frame_turns_the_vector():
    """Equivariance: exp(Q v) = Q exp(v) Q^T."""
    vectors, frames = 0.7 * _axes(20), so3.exp(2.0 * _axes(20, 1))
    turned = (frames @ vectors[..., None])[..., 0]
    assert torch.allclose(so3.exp(turned), frames @ so3.exp(vectors) @ frames.mT, atol=1e-13)


def test_turns_about_one_axis_add_up():
    axes = _axes(20)
    assert torch.allclose(so3.exp(0.4 * axes) @ so3.exp(0.9 * axes), so3.exp(1.3 * axes), atol=1e-13)


@pytest.mark.parametrize("angle", ANGLES[:-1])
def test_logarithm_of_rigid_motions(angle):
    twists = torch.cat([_axes(20, 2), angle * _axes(20)], -1)
    assert torch.allclose(se3.log(se3.exp(twists)), twists, atol=1e-6 if angle > 3 else 1e-12)


def test_rigid_motions_are_a_group():
    a, b, c = (_motions(10, seed) for seed in range(3))
    assert torch.allclose(se3.compose(se3.compose(a, b), c), se3.compose(a, se3.compose(b, c)), atol=1e-12)
    still = torch.eye(3, 4).double().expand(10, 3, 4)
    assert torch.allclose(se3.compose(a, se3.inverse(a)), still, atol=1e-13)
    assert torch.allclose(se3.compose(se3.inverse(a), a), still, atol=1e-13)


@pytest.mark.parametrize("angle", ANGLES)
def test_quaternions_turn_vectors_as_their_rotations_do(angle):
    rotations, points = so3.exp(angle * _axes(50)), _axes(50, 1)
    quaternions = so3.to_quaternion(rotations)
    w, vector = quaternions[:, :1], quaternions[:, 1:]
    turned = points + 2 * torch.cross(vector, torch.cross(vector, points, dim=-1) + w * points, dim=-1)
    assert torch.allclose(turned, (rotations @ points[..., None])[..., 0], atol=1e-12)
    assert bool((w >= 0).all())


@pytest.mark.parametrize("angle", [0.0, 1e-3, 0.09, 0.11, 2.5])
def test_gradients_by_finite_differences(angle):
    vectors = (angle * _axes(3)).requires_grad_()
    assert torch.autograd.gradcheck(so3.exp, (vectors,))
    assert torch.autograd.gradcheck(lambda v: so3.log(so3.exp(v)), (vectors,))
    twists = torch.cat([_axes(3, 1), angle * _axes(3)], -1).requires_grad_()
    assert torch.autograd.gradcheck(se3.exp, (twists,))
    assert torch.autograd.gradcheck(lambda t: se3.log(se3.exp(t)), (twists,))


@pytest.mark.parametrize("angle", [1e-8, 1e-4, 9e-3, 0.05])
def test_single_precision_is_good_for_small_turns(angle):
    vectors = angle * _axes(50)
    error = so3.exp(vectors.float()).double() - so3.exp(vectors)
    assert float(error.abs().max()) < 2e-7


def test_quaternions_of_any_length_give_their_rotations_back():
    rotations = so3.exp(2.9 * _axes(50))
    quaternions = so3.to_quaternion(rotations)
    for scale in (1.0, -0.3, 40.0):
        assert torch.allclose(so3.from_quaternion(scale * quaternions), rotations, atol=1e-13)
