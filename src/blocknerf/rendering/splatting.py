"""Gaussians in the world to a picture: EWA splatting (Zwicker et al. 2001; Kerbl et al. 2023, section 4)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from blocknerf.geometry.harmonics import harmonics
from blocknerf.geometry.so3 import from_quaternion
from blocknerf.kernels.splats.ops import rasterize

DILATION_PX2 = 0.3
"""Added to both variances on the picture, as in all viewers, so that no splat falls between pixels."""
_BEYOND = 1.3
"""A splat's affine image is evaluated at most this far out, in units of the picture's half field of view."""
_SIGMAS = 3.5
"""Standard deviations at which a splat of opacity 1 becomes invisible: exp(-3.33^2 / 2) = 1 / 255."""


@dataclass(frozen=True, slots=True)
class Gaussians:
    """Splats during training; `export/splats.py` explains the entries under the same names."""

    means: Float[Tensor, "n 3"]
    log_scales: Float[Tensor, "n 3"]
    quaternions: Float[Tensor, "n 4"]
    opacity_logits: Float[Tensor, " n"]
    harmonics: Float[Tensor, "n functions 3"]

    def __getitem__(self, rows: Tensor) -> "Gaussians":
        return Gaussians(*(getattr(self, name)[rows] for name in Gaussians.__slots__))


@dataclass(frozen=True, slots=True)
class SplatLens:
    """A perspective camera of `width` x `height` pixels; `distortion` is OpenCV's k1, k2, p1, p2."""

    focal_xy: tuple[float, float]
    center_xy: tuple[float, float]
    width: int
    height: int
    distortion: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)


def render_splats(
    splats: Gaussians, lens: SplatLens, world_from_cam: Float[Tensor, "3 4"], near_m: float
) -> Float[Tensor, "4 h w"]:
    """Red, green, blue on black, and opacity.

    Differentiable in the splats. Splats whose centre is nearer than `near_m` along the optical axis are skipped, as in
    every viewer.
    """
    around_m = splats.log_scales.amax(-1).exp()
    return show_splats(splats[in_sight(splats.means, around_m, lens, world_from_cam, near_m)], lens, world_from_cam)


def show_splats(seen: Gaussians, lens: SplatLens, world_from_cam: Float[Tensor, "3 4"]) -> Float[Tensor, "4 h w"]:
    """`render_splats` of splats in front of the camera, sorted front to back (`in_sight`)."""
    centers_xy, conics = project(seen, lens, world_from_cam)
    directions = torch.nn.functional.normalize(seen.means - world_from_cam[:, 3], dim=-1)
    degree = int(round(seen.harmonics.shape[1] ** 0.5)) - 1
    colours = (harmonics(directions, degree)[:, :, None] * seen.harmonics).sum(1)
    return rasterize(
        centers_xy, conics, (colours + 0.5).clamp(min=0), torch.sigmoid(seen.opacity_logits), lens.width, lens.height
    )


def project(
    splats: Gaussians, lens: SplatLens, world_from_cam: Float[Tensor, "3 4"]
) -> tuple[Float[Tensor, "n 2"], Float[Tensor, "n 3"]]:
    """Centres in pixels, and conics (xx, xy, yy), of splats before the camera.

    A splat's covariance S becomes J R S R^T J^T with J the derivative of the pinhole at its centre. Distortion moves
    only centres: it hardly bends anything as small as a splat.
    """
    x, y, z = ((splats.means - world_from_cam[:, 3]) @ world_from_cam[:, :3]).unbind(-1)
    fx, fy = lens.focal_xy
    limit_x, limit_y = _limits(lens)
    u, v, zero = (x / z).clamp(-limit_x, limit_x), (y / z).clamp(-limit_y, limit_y), torch.zeros_like(z)
    rows = [fx / z, zero, -fx * u / z, zero, fy / z, -fy * v / z]
    image_from_world = torch.stack(rows, -1).unflatten(-1, (2, 3)) @ world_from_cam[:, :3].T
    axes = from_quaternion(splats.quaternions) * splats.log_scales.exp()[:, None]
    flat = image_from_world @ axes
    xx = flat[:, 0].square().sum(-1) + DILATION_PX2
    xy = (flat[:, 0] * flat[:, 1]).sum(-1)
    yy = flat[:, 1].square().sum(-1) + DILATION_PX2
    determinant = (xx * yy - xy * xy).clamp(min=DILATION_PX2**2)
    return distorted(torch.stack([x / z, y / z], -1), lens), torch.stack([yy, -xy, xx], -1) / determinant[:, None]


@torch.no_grad()
def in_sight(
    means: Float[Tensor, "n 3"],
    largest_m: Float[Tensor, " n"],
    lens: SplatLens,
    world_from_cam: Float[Tensor, "3 4"],
    near_m: float,
) -> Int[Tensor, " seen"]:
    """Splats that may be visible, front to back; `largest_m` is the largest standard deviation of each."""
    x, y, z = ((means - world_from_cam[:, 3]) @ world_from_cam[:, :3]).unbind(-1)
    limit_x, limit_y = _limits(lens)
    around = _SIGMAS * largest_m
    near = (z > near_m) & (x.abs() < limit_x * z + around) & (y.abs() < limit_y * z + around)
    rows = near.nonzero()[:, 0]
    return rows[z[rows].argsort(stable=True)]


def _limits(lens: SplatLens) -> tuple[float, float]:
    sizes = zip((lens.width, lens.height), lens.center_xy, lens.focal_xy, strict=True)
    limit_x, limit_y = (_BEYOND * max(center, size - center) / focal for size, center, focal in sizes)
    return limit_x, limit_y


def distorted(points: Float[Tensor, "n 2"], lens: SplatLens) -> Float[Tensor, "n 2"]:
    """Pixels of points at distance 1 before the camera (OpenCV's radial and tangential distortion)."""
    k1, k2, p1, p2 = lens.distortion
    x, y = points.unbind(-1)
    square = x * x + y * y
    radial = 1 + square * (k1 + square * k2)
    xd = x * radial + 2 * p1 * x * y + p2 * (square + 2 * x * x)
    yd = y * radial + p1 * (square + 2 * y * y) + 2 * p2 * x * y
    (fx, fy), (cx, cy) = lens.focal_xy, lens.center_xy
    return torch.stack([fx * xd + cx, fy * yd + cy], -1)
