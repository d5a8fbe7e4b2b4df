"""Rigid motions as [3, 4] matrices: rotation, then translation. A twist is (translation part, rotation vector)."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.geometry import so3

OPENCV_FROM_OPENGL = np.array([1.0, -1.0, -1.0, 1.0])
"""Multiplied with the columns of world_from_cam [3, 4], flips the axes y and z. It is its own inverse."""


def exp(twists: Float[Tensor, "*n 6"]) -> Float[Tensor, "*n 3 4"]:
    """The motion that a constant twist makes in one unit of time; its translation is V v with V of `_mean_rotation`."""
    velocity, turn = twists[..., :3], twists[..., 3:]
    return torch.cat([so3.exp(turn), _mean_rotation(turn) @ velocity[..., None]], -1)


def log(motions: Float[Tensor, "*n 3 4"]) -> Float[Tensor, "*n 6"]:
    """The inverse of `exp`, with a turn of at most pi."""
    turn = so3.log(motions[..., :3])
    return torch.cat([torch.linalg.solve(_mean_rotation(turn), motions[..., 3]), turn], -1)


def compose(a_from_b: Float[Tensor, "*n 3 4"], b_from_c: Float[Tensor, "*n 3 4"]) -> Float[Tensor, "*n 3 4"]:
    """a_from_c."""
    product = a_from_b[..., :3] @ b_from_c
    return torch.cat([product[..., :3], product[..., 3:] + a_from_b[..., 3:]], -1)


def inverse(a_from_b: Float[Tensor, "*n 3 4"]) -> Float[Tensor, "*n 3 4"]:
    """b_from_a."""
    back = a_from_b[..., :3].mT
    return torch.cat([back, -back @ a_from_b[..., 3:]], -1)


def _mean_rotation(turn: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 3 3"]:
    """V = I + (1 - cos a)/a^2 K + (a - sin a)/a^3 K^2: the mean of exp(s v) over s in [0, 1]."""
    k = so3.hat(turn)
    square = turn.square().sum(-1)[..., None, None]
    half = so3.sinc(square / 4)
    small = square < 1e-2
    safe = torch.where(small, torch.ones_like(square), square)
    series = 1 / 6 * (1 - square / 20 * (1 - square / 42 * (1 - square / 72)))
    third = torch.where(small, series, (1 - so3.sinc(safe)) / safe)
    return torch.eye(3).to(turn) + 0.5 * half * half * k + third * (k @ k)
