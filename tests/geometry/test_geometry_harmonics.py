"""Spherical harmonics by their laws: orthonormal, and turned as the sphere is turned."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch

from blocknerf.geometry import so3
from blocknerf.geometry.harmonics import harmonics, harmonics_turn, num_harmonics


def _directions(count: int, seed: int = 0) -> torch.Tensor:
    numbers = torch.randn(count, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(numbers, dim=-1)


def test_they_are_orthonormal_on_the_sphere():
    """By a quadrature that is exact there: even angles around, Gauss-Legendre along the axis."""
    heights, weights = map(torch.from_numpy, np.polynomial.legendre.leggauss(4))
    angles = torch.arange(16, dtype=torch.float64) * (2 * math.pi / 16)
    z, angle = (grid.reshape(-1) for grid in torch.meshgrid(heights, angles, indexing="ij"))
    flat = (1 - z * z).sqrt()
    values = harmonics(torch.stack([flat * angle.cos(), flat * angle.sin(), z], -1), 3)
    area = weights.repeat_interleave(16) * (2 * math.pi / 16)
    torch.testing.assert_close(values.T @ (area[:, None] * values), torch.eye(16).double(), atol=1e-12, rtol=0)


def test_the_first_bands_have_the_signs_of_splat_files():
    x, y, z = torch.eye(3).double()
    assert harmonics(y, 1)[1] < 0 < harmonics(z, 1)[2]
    assert harmonics(x, 1)[3] < 0 < harmonics(x, 2)[8]
    assert harmonics(x, 3)[15] < 0 < harmonics(z, 3)[12]


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_turned_coefficients_say_in_turned_directions_what_they_said(degree):
    rotation = so3.exp(torch.tensor([0.7, -1.9, 0.4], dtype=torch.float64))
    coefficients = torch.randn(num_harmonics(degree), 3, generator=torch.Generator().manual_seed(1)).double()
    directions = _directions(200)
    turned = harmonics_turn(rotation, degree) @ coefficients
    before, after = harmonics(directions, degree) @ coefficients, harmonics(directions @ rotation.T, degree) @ turned
    torch.testing.assert_close(after, before, atol=1e-12, rtol=0)


def test_turns_compose_and_are_orthogonal():
    one, other = (so3.exp(v) for v in torch.randn(2, 3, generator=torch.Generator().manual_seed(2)).double())
    both = harmonics_turn(one, 3) @ harmonics_turn(other, 3)
    torch.testing.assert_close(harmonics_turn(one @ other, 3), both, atol=1e-11, rtol=0)
    torch.testing.assert_close(both @ both.T, torch.eye(16).double(), atol=1e-11, rtol=0)


@pytest.mark.slow
def test_a_turn_has_the_same_bytes_in_every_process():
    code = """
import torch
from blocknerf.geometry import so3
from blocknerf.geometry.harmonics import harmonics_turn
print(harmonics_turn(so3.exp(torch.tensor([0.7, -1.9, 0.4], dtype=torch.float64)), 3).numpy().tobytes().hex())
"""
    outputs = {subprocess.check_output([sys.executable, "-c", code], timeout=120) for _ in range(6)}
    assert len(outputs) == 1
