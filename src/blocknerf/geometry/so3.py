"""Rotations: vectors (axis times angle in radians) to matrices and back, stable at 0 and at pi. Any dtype, batched."""

import torch
from jaxtyping import Float
from torch import Tensor


def hat(vectors: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 3 3"]:
    """The matrices of the cross product: `hat(a) @ b` is a x b."""
    x, y, z = vectors.unbind(-1)
    o = torch.zeros_like(x)
    return torch.stack([o, -z, y, z, o, -x, -y, x, o], -1).unflatten(-1, (3, 3))


def exp(vectors: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 3 3"]:
    """Rotation matrices (Rodrigues): I + sin(a)/a K + (1 - cos(a))/a^2 K^2 with K = hat(v), a = |v|."""
    k = hat(vectors)
    square = vectors.square().sum(-1)[..., None, None]
    half = sinc(square / 4)
    return torch.eye(3).to(vectors) + sinc(square) * k + 0.5 * half * half * (k @ k)


def sinc(square: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """sin(a)/a from a^2 >= 0; smooth at 0, where its series is taken."""
    small = square < 1e-4
    angle = torch.where(small, torch.ones_like(square), square).sqrt()
    return torch.where(small, 1 - square / 6 * (1 - square / 20 * (1 - square / 42)), angle.sin() / angle)


def log(rotations: Float[Tensor, "*n 3 3"]) -> Float[Tensor, "*n 3"]:
    """The inverse of `exp`, of length at most pi; of a half turn either of its two vectors."""
    quaternions = to_quaternion(rotations)
    w, vector = quaternions[..., 0], quaternions[..., 1:]
    square = vector.square().sum(-1)
    small = square < 1e-10
    length = torch.where(small, torch.ones_like(square), square).sqrt()
    per_length = torch.where(small, 2 / w.clamp(min=0.5), 2 * torch.atan2(length, w) / length)
    return per_length[..., None] * vector


def to_quaternion(rotations: Float[Tensor, "*n 3 3"]) -> Float[Tensor, "*n 4"]:
    """Unit quaternions (w, x, y, z) with w >= 0.

    4 q q^T is linear in the matrix; its row with the largest diagonal is a long multiple of q, whatever the angle.
    """
    m = rotations
    xx, yy, zz = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    wx, wy, wz = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    xy, xz, yz = m[..., 1, 0] + m[..., 0, 1], m[..., 2, 0] + m[..., 0, 2], m[..., 2, 1] + m[..., 1, 2]
    rows = [
        torch.stack([1 + xx + yy + zz, wx, wy, wz], -1),
        torch.stack([wx, 1 + xx - yy - zz, xy, xz], -1),
        torch.stack([wy, xy, 1 - xx + yy - zz, yz], -1),
        torch.stack([wz, xz, yz, 1 - xx - yy + zz], -1),
    ]
    products = torch.stack(rows, -2)
    longest = products.diagonal(dim1=-2, dim2=-1).argmax(-1)[..., None, None].expand(*m.shape[:-2], 1, 4)
    row = products.gather(-2, longest)[..., 0, :]
    return torch.nn.functional.normalize(torch.where(row[..., :1] < 0, -row, row), dim=-1)


def from_quaternion(quaternions: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n 3 3"]:
    """Rotation matrices of quaternions (w, x, y, z) of any length but zero: the inverse of `to_quaternion`."""
    w, x, y, z = torch.nn.functional.normalize(quaternions, dim=-1).unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z),
        2 * (x * y - w * z),
        2 * (x * z + w * y),
        2 * (x * y + w * z),
        1 - 2 * (x * x + z * z),
        2 * (y * z - w * x),
        2 * (x * z - w * y),
        2 * (y * z + w * x),
        1 - 2 * (x * x + y * y),
    ]
    return torch.stack(rows, -1).unflatten(-1, (3, 3))
