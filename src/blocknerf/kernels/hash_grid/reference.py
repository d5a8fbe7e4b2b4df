"""Multiresolution hash encoding (Mueller et al. 2022, section 3).

A level is a virtual grid over the unit cube with `resolution` cells per edge. Corner (x, y, z) is in row
x + y (r + 1) + z (r + 1)^2 if the table has a row for every corner, otherwise in row
(x xor 2654435761 y xor 805459861 z) mod rows. A point gets the trilinear mean of its 8 corners, level by level.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

PRIME_Y = 2654435761
PRIME_Z = 805459861


def hash_encode(
    points: Float[Tensor, "points 3"],
    table: Float[Tensor, "levels rows features"],
    resolutions: Int[Tensor, " levels"],
) -> Float[Tensor, "points encoding"]:
    """Differentiable in the table and in the points."""
    rows = table.shape[1]
    features = []
    for level, resolution in enumerate(resolutions.tolist()):
        scaled = points.clamp(0, 1) * resolution
        cell = scaled.detach().floor().clamp(max=resolution - 1)
        fraction = scaled - cell
        low = cell.long().clamp(0, resolution - 1)  # of NaN, too
        total = torch.zeros_like(table[level, 0]).expand(points.shape[0], -1)
        for corner in range(8):
            bits = low.new_tensor([corner & 1, corner >> 1 & 1, corner >> 2 & 1])
            weight = torch.where(bits.bool(), fraction, 1 - fraction).prod(-1, keepdim=True)
            total = total + weight * table[level, corner_rows(low + bits, resolution, rows)]
        features.append(total)
    return torch.cat(features, -1)


def corner_rows(corner: Int[Tensor, "points 3"], resolution: int, rows: int) -> Int[Tensor, " points"]:
    x, y, z = corner.unbind(-1)
    if (resolution + 1) ** 3 <= rows:
        return x + (resolution + 1) * (y + (resolution + 1) * z)
    return (x ^ (y * PRIME_Y & 0xFFFFFFFF) ^ (z * PRIME_Z & 0xFFFFFFFF)) % rows
