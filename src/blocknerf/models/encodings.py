"""Fixed and learned encodings of positions and directions."""

import torch
from jaxtyping import Float
from torch import Tensor

FIRST_LEVELS = 3  # of a grid or of octaves, when they are switched on one after the other


def num_active_levels(levels: int, share: float) -> float:
    """The coarsest FIRST_LEVELS and this share of the others; all from 1 on."""
    first = min(FIRST_LEVELS, levels)
    return first + (levels - first) * min(share, 1.0)


def level_weights(levels: int, active: float) -> Float[Tensor, " levels"]:
    """1 for the first `active` levels and 0 beyond, with a cosine step between (BARF: Lin et al. 2021, equation 14)."""
    part = (active - torch.arange(levels)).clamp(0, 1)
    return (1 - torch.cos(torch.pi * part)) / 2


_HARMONICS = (
    (0.28209479177387814,),
    (-0.4886025119029199, 0.4886025119029199, -0.4886025119029199),
    (1.0925484305920792, -1.0925484305920792, 0.31539156525252005, -1.0925484305920792, 0.5462742152960396),
    (
        *(-0.5900435899266435, 2.890611442640554, -0.4570457994644658, 0.3731763325901154),
        *(-0.4570457994644658, 1.445305721320277, -0.5900435899266435),
    ),
)
"""What makes the polynomials below orthonormal, band by band."""


def spherical_harmonics(directions: Float[Tensor, "*rays 3"], levels: int) -> Float[Tensor, "*rays harmonics"]:
    """Real spherical harmonics of degree 0 to `levels` - 1 of unit directions: levels^2 numbers, orthonormal."""
    x, y, z = directions.unbind(-1)
    xx, yy, zz = x * x, y * y, z * z
    zz5, sides = 5 * zz, xx - yy
    bands = [
        [torch.ones_like(x)],
        [y, z, x],
        [x * y, y * z, 3 * zz - 1, x * z, sides],
        [
            *(y * (3 * xx - yy), x * y * z, y * (zz5 - 1), z * (zz5 - 3)),
            *(x * (zz5 - 1), z * sides, x * (xx - 3 * yy)),
        ],
    ]
    harmonics = torch.stack([harmonic for band in bands[:levels] for harmonic in band], -1)
    return harmonics * directions.new_tensor([factor for band in _HARMONICS[:levels] for factor in band])


def positional_encoding(points: Float[Tensor, "*points 3"], levels: int) -> Float[Tensor, "*points encoding"]:
    """sin and cos of 2^l x for l = 0 to `levels` - 1: 6 `levels` numbers (NeRF, equation 4, without its factor pi)."""
    angles = _octaves(points, levels)
    return torch.cat([angles.sin(), angles.cos()], -1)


def integrated_positional_encoding(
    means: Float[Tensor, "*points 3"], variances: Float[Tensor, "*points 3"], levels: int
) -> Float[Tensor, "*points encoding"]:
    """The expectation of `positional_encoding` over Gaussians of these means and variances by axis.

    mip-NeRF, equations 13 and 14. Variations faster than the Gaussian's width fade to zero instead of aliasing.
    """
    angles = _octaves(means, levels)
    damping = torch.exp(-0.5 * (variances[..., None, :] * _frequencies(means, levels).square()).flatten(-2))
    return torch.cat([damping * angles.sin(), damping * angles.cos()], -1)


def _octaves(points: Float[Tensor, "*points 3"], levels: int) -> Float[Tensor, "*points angles"]:
    return (points[..., None, :] * _frequencies(points, levels)).flatten(-2)


def _frequencies(like: Tensor, levels: int) -> Float[Tensor, "levels 1"]:
    return 2 ** torch.arange(levels, dtype=like.dtype, device=like.device)[:, None]
