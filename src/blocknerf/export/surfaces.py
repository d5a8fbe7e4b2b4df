"""The surface that one block shows along every ray of a picture, and how certain its position is."""

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from blocknerf.city.pictures import to_bytes
from blocknerf.core.camera import Camera
from blocknerf.core.types import RayBatch
from blocknerf.rendering.volume import CompositedRays
from blocknerf.scene.rays import camera_rays, focal_lengths

RAYS_AT_ONCE = 8192
LEAST_OPACITY = 0.5
"""Minimum opacity of a ray that hits a surface."""
SPREAD_QUANTILES = (0.2, 0.5, 0.8)


@runtime_checkable
class Composites(Protocol):
    """The required part of a block's interface: see `BlockNeRF.composite`."""

    radius_m: float

    def composite(
        self, rays: RayBatch, codes: Float[Tensor, "rays code"] | None, rng: torch.Generator | None
    ) -> tuple[Float[Tensor, "rays 3"], CompositedRays]: ...


@dataclass(frozen=True, slots=True)
class SurfaceMap:
    """A picture of surfaces by a pinhole camera with square pixels whose axis goes through the middle.

    `depth_z_m` is 0 where a ray hits nothing. `depth_std_m` is the distance between a ray's 20 % and 80 % quantiles;
    `cosine` that of the angle between the ray and the surface's normal.
    """

    camera: Camera
    world_from_cam: np.ndarray  # [3, 4]
    depth_z_m: Float32[np.ndarray, "h w"]
    depth_std_m: Float32[np.ndarray, "h w"]
    cosine: Float32[np.ndarray, "h w"]
    normals_world: Float32[np.ndarray, "h w 3"]
    rgb: UInt8[np.ndarray, "h w 3"]

    @property
    def focal_px(self) -> float:
        return self.camera.params[0]

    def points_world(self) -> Float[np.ndarray, "h w 3"]:
        """Where the pixels' surfaces are; the camera's centre where there is none."""
        rays = _pinhole_rays(self.camera)
        return self.depth_z_m[..., None] * rays @ self.world_from_cam[:, :3].T + self.world_from_cam[:, 3]


def pinhole_of(camera: Camera, longest_px: int) -> Camera:
    """A pinhole camera that sees about what `camera` sees, its longer side `longest_px` at most."""
    scale = min(1.0, longest_px / max(camera.width, camera.height))
    width, height = max(2, round(scale * camera.width)), max(2, round(scale * camera.height))
    lengths = focal_lengths(camera) or (max(camera.width, camera.height) / math.pi,)
    focal_px = float(np.mean(lengths)) * width / camera.width
    return Camera.pinhole(width, height, focal_px)


@torch.no_grad()
def surface_map(
    block: Composites, camera: Camera, world_from_cam: np.ndarray, code: Float[Tensor, " code"] | None = None
) -> SurfaceMap:
    """What `block` shows to `camera` (of `pinhole_of`): the median distance of what stops each ray.

    The mean could lie in the air between two surfaces.
    """
    rays = camera_rays(camera, world_from_cam, camera.width, camera.height)
    quantiles, opacities, colours = [], [], []
    for start in range(0, len(rays), RAYS_AT_ONCE):
        chunk = rays[start : start + RAYS_AT_ONCE]
        rgb, composited = block.composite(chunk, None if code is None else code.expand(len(chunk), -1), None)
        quantiles.append(stopping_distances(composited, SPREAD_QUANTILES) * block.radius_m)
        opacities.append(composited.opacity)
        colours.append(rgb)
    shape = camera.height, camera.width
    early, middle, late = (part.reshape(shape).numpy() for part in torch.cat(quantiles).unbind(-1))
    along_axis = 1 / np.linalg.norm(_pinhole_rays(camera), axis=-1)
    hits = torch.cat(opacities).reshape(shape).numpy() >= LEAST_OPACITY
    depth_z_m = np.where(hits, middle * along_axis, 0).astype(np.float32)
    normals, cosine = _facing(camera, depth_z_m)
    turned = (normals @ world_from_cam[:, :3].T).astype(np.float32)
    rgb = to_bytes(torch.cat(colours).reshape(*shape, 3))
    return SurfaceMap(camera, world_from_cam, depth_z_m, late - early, cosine, turned, rgb)


def stopping_distances(rays: CompositedRays, shares: tuple[float, ...]) -> Float[Tensor, "rays shares"]:
    """Distance along each ray, in block units, at which these shares of its stopped light are stopped."""
    lost = rays.weights.cumsum(-1)
    wanted = lost[:, -1:] * torch.tensor(shares)
    bins = torch.searchsorted(lost.contiguous(), wanted.contiguous()).clamp(max=lost.shape[1] - 1)
    before = torch.nn.functional.pad(lost, (1, 0)).gather(1, bins)
    part = ((wanted - before) / rays.weights.gather(1, bins).clamp(min=1e-9)).clamp(0, 1)
    near, far = rays.edges.gather(1, bins), rays.edges.gather(1, bins + 1)
    return near + part * (far - near)


def _pinhole_rays(camera: Camera) -> Float32[np.ndarray, "h w 3"]:
    """Directions in camera axes, one metre long along the axis."""
    columns = (np.arange(camera.width) + 0.5 - camera.width / 2) / camera.params[0]
    rows = (np.arange(camera.height) + 0.5 - camera.height / 2) / camera.params[0]
    x, y = np.meshgrid(columns, rows)
    return np.stack([x, y, np.ones_like(x)], -1).astype(np.float32)


def _facing(
    camera: Camera, depth_z_m: Float32[np.ndarray, "h w"]
) -> tuple[Float32[np.ndarray, "h w 3"], Float32[np.ndarray, "h w"]]:
    """Unit normals in camera axes, towards the camera, and their cosine to the ray; 0 where unknown."""
    rays = _pinhole_rays(camera)
    points = np.where(depth_z_m[..., None] > 0, depth_z_m[..., None] * rays, np.nan)
    normals = np.cross(_steps(points, 0), _steps(points, 1))
    towards = -(normals * rays).sum(-1)
    normals *= (np.sign(towards) / np.linalg.norm(normals, axis=-1).clip(min=1e-20))[..., None]
    cosine = -(normals * rays).sum(-1) / np.linalg.norm(rays, axis=-1)
    return np.nan_to_num(normals).astype(np.float32), np.nan_to_num(cosine).clip(0, 1).astype(np.float32)


def _steps(points: Float32[np.ndarray, "h w 3"], axis: int) -> Float32[np.ndarray, "h w 3"]:
    """From pixel to pixel along an axis, to the side where depth changes less: not over the edge of a surface."""
    steps = np.diff(points, axis=axis)
    gap = np.full_like(points.take([0], axis), np.nan)
    ahead, behind = np.concatenate([steps, gap], axis), np.concatenate([gap, steps], axis)
    less = np.nan_to_num(np.abs(ahead[..., 2:]), nan=np.inf) <= np.nan_to_num(np.abs(behind[..., 2:]), nan=np.inf)
    return np.where(less, ahead, behind)
