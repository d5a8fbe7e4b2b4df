"""Real spherical harmonics up to degree 3, in the order and with the signs of the files of 3D Gaussian Splatting.

Band l has 2 l + 1 functions, m from -l to l, orthonormal on the sphere, with the Condon-Shortley sign (-1)^m.
"""

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

MOST_DEGREE = 3
BAND_0 = math.sqrt(1 / (4 * math.pi))
BAND_1 = math.sqrt(3 / (4 * math.pi))
BAND_2 = tuple(math.sqrt(square / math.pi) for square in (15 / 4, 5 / 16, 15 / 16))
BAND_3 = tuple(math.sqrt(square / math.pi) for square in (35 / 32, 105 / 4, 21 / 32, 7 / 16, 105 / 16))
_ANGLES = 8


def num_harmonics(degree: int) -> int:
    """Functions of all bands up to `degree`."""
    return (degree + 1) ** 2


def harmonics(directions: Float[Tensor, "*n 3"], degree: int) -> Float[Tensor, "*n functions"]:
    """Values at unit `directions`, band after band. Differentiable."""
    x, y, z = directions.unbind(-1)
    values = [torch.full_like(x, BAND_0)]
    if degree >= 1:
        values += [-BAND_1 * y, BAND_1 * z, -BAND_1 * x]
    if degree >= 2:
        xx, yy, zz = x * x, y * y, z * z
        a, b, c = BAND_2
        values += [a * x * y, -a * y * z, b * (2 * zz - xx - yy), -a * x * z, c * (xx - yy)]
        if degree >= 3:
            a, b, c, d, e = BAND_3
            around = 4 * zz - xx - yy
            values += [
                -a * y * (3 * xx - yy),
                b * x * y * z,
                -c * y * around,
                d * z * (2 * zz - 3 * xx - 3 * yy),
                -c * x * around,
                e * z * (xx - yy),
                -a * x * (xx - 3 * yy),
            ]
    return torch.stack(values, -1)


def harmonics_turn(rotation: Float[Tensor, "3 3"], degree: int) -> Float[Tensor, "functions functions"]:
    """The matrix D for which coefficients D c say in direction R d what c says in d: Wigner's, band by band.

    It is the integral of h(R d) h(d)^T over the sphere, which a quadrature has exactly: products of two functions are
    polynomials of degree 6, and MOST_DEGREE + 1 Gauss-Legendre heights times 8 angles integrate degree 7. A sum of
    products in a fixed order has the same bytes in every process, which least squares of a BLAS library have not.
    """
    heights, weights = np.polynomial.legendre.leggauss(MOST_DEGREE + 1)
    z = torch.from_numpy(heights).repeat_interleave(_ANGLES)
    angle = (2 * math.pi / _ANGLES * torch.arange(_ANGLES, dtype=torch.float64)).repeat(MOST_DEGREE + 1)
    flat = (1 - z * z).sqrt()
    directions = torch.stack([flat * angle.cos(), flat * angle.sin(), z], -1)
    turned = (directions[:, None, :] * rotation.double()).sum(-1)
    areas = torch.from_numpy(weights).repeat_interleave(_ANGLES) * (2 * math.pi / _ANGLES)
    before, after = harmonics(directions, degree), harmonics(turned, degree)
    products = areas[:, None, None] * after[:, :, None] * before[:, None, :]
    bands = torch.tensor([band for band in range(degree + 1) for _ in range(2 * band + 1)])
    return torch.where(bands[:, None] == bands, products.sum(0), 0.0).to(rotation)
