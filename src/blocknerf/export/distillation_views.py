"""The source of distilled splats: pictures of a city from its photographs' poses, all in one appearance."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from blocknerf.city.city import City, composite
from blocknerf.core.camera import Camera
from blocknerf.core.types import Appearance
from blocknerf.export.paths import View
from blocknerf.geometry import se3
from blocknerf.rendering.splatting import SplatLens
from blocknerf.scene.rays import camera_rays, focal_lengths
from blocknerf.scene.scene import ImageRecord

_DISTORTIONS = {
    "SIMPLE_PINHOLE": (),
    "PINHOLE": (),
    "SIMPLE_RADIAL": (0,),
    "RADIAL": (0, 1),
    "OPENCV": (0, 1, 2, 3),
}
"""COLMAP's models that a splat lens can be, and which of k1, k2, p1, p2 stand behind their centre."""
_NEIGHBOURS = 3


@dataclass(frozen=True, slots=True)
class TeacherView:
    """One picture of the city: colours (bytes), where opaque to what share, and how far along each ray it is."""

    lens: SplatLens
    world_from_cam: Float[Tensor, "3 4"]
    rgb: UInt8[Tensor, "h w 3"]
    opacity: Float[Tensor, "h w"]
    distance_m: Float[Tensor, "h w"]
    directions: Float[Tensor, "h w 3"]


def splat_camera(camera: Camera) -> Camera:
    """The camera itself if splats support its lens, else a pinhole of the same focal length."""
    if camera.model in _DISTORTIONS:
        return camera
    focal = focal_lengths(camera)
    fx, fy = (focal[0], focal[-1]) if focal else (camera.width / 4, camera.width / 4)
    return Camera("PINHOLE", camera.width, camera.height, (fx, fy, camera.width / 2, camera.height / 2))


def splat_lens(camera: Camera, width: int, height: int) -> SplatLens:
    """The lens of a camera (see `splat_camera`) whose picture is resized to `width` x `height`."""
    across, along = width / camera.width, height / camera.height
    focal, rest = focal_lengths(camera), camera.params[len(focal_lengths(camera)) :]
    distortion = [0.0, 0.0, 0.0, 0.0]
    for place, value in zip(_DISTORTIONS[camera.model], rest[2:], strict=True):
        distortion[place] = value
    k1, k2, p1, p2 = distortion
    return SplatLens(
        (focal[0] * across, focal[-1] * along), (rest[0] * across, rest[1] * along), width, height, (k1, k2, p1, p2)
    )


def views_between(views: Sequence[View], count: int, generator: torch.Generator) -> list[View]:
    """`count` views between neighbours: cameras with one lens that are near each other and have similar directions.

    Nothing else constrains splats from places without a camera.
    """
    poses = torch.from_numpy(np.stack([view.world_from_cam for view in views]))
    centers, forward = poses[:, :, 3], poses[:, :, 2]
    same = torch.tensor([[one.camera == other.camera for other in views] for one in views])
    near = torch.cdist(centers, centers) / torch.cdist(centers, centers).median().clamp(min=1e-9)
    cost = near + (1 - forward @ forward.T) + torch.where(same, 0.0, torch.inf).fill_diagonal_(torch.inf)
    closest, neighbours = cost.topk(min(_NEIGHBOURS, len(views)), largest=False)
    between = []
    for _ in range(count if bool(closest.isfinite().any()) else 0):
        row = int(torch.randint(len(views), (1,), generator=generator))
        other = int(torch.randint(neighbours.shape[1], (1,), generator=generator))
        share = float(torch.rand(1, generator=generator))
        if bool(closest[row, other].isfinite()):
            twist = se3.log(se3.compose(se3.inverse(poses[row]), poses[neighbours[row, other]]))
            pose = se3.compose(poses[row], se3.exp(share * twist)).numpy()
            between.append(replace(views[row], world_from_cam=pose))
    return between


def render_teacher_views(
    city: City, views: Sequence[View], appearance: Appearance, only: str | None = None
) -> Iterator[TeacherView]:
    """Each view rendered by the city, or by its block `only` alone. Cameras must be of `splat_camera`."""
    resolved = appearance.resolved(city.main_drive)
    for view in views:
        center = torch.from_numpy(np.array(view.world_from_cam[:, 3], dtype=np.float64))
        rays = camera_rays(view.camera, view.world_from_cam, view.width, view.height)
        blocks = city.weights(center) if only is None else [only]
        picture = composite(city.layers(rays, center, only=only, codes=city.codes_for(blocks, resolved)))
        shape = (view.height, view.width)
        yield TeacherView(
            splat_lens(view.camera, view.width, view.height),
            torch.from_numpy(np.array(view.world_from_cam, np.float32)),
            (picture.rgb.clamp(0, 1) * 255 + 0.5).to(torch.uint8).reshape(*shape, 3),
            picture.opacity.reshape(shape).float(),
            picture.distance_m.reshape(shape).float(),
            rays.directions.reshape(*shape, 3),
        )


def pixel_m(view: TeacherView) -> Float[Tensor, "h w"]:
    """Width of a pixel on the surface that it shows."""
    fx, fy = view.lens.focal_xy
    return view.distance_m / math.sqrt(fx * fy)


def choose_viewpoints(
    images: Sequence[ImageRecord],
    cameras: dict[str, Camera],
    downsample: int,
    most: int,
    longest_px: int,
    generator: torch.Generator,
) -> list[View]:
    """At most `most` views: two thirds from where images were taken, evenly over them, the others between those.

    Of 1 / `downsample` of the photographs' size, and no side above `longest_px`.
    """
    taken = min(len(images), max(1, round(most * 2 / 3)))
    rows = np.unique(np.linspace(0, len(images) - 1, taken).round().astype(int))
    views = []
    for image in (images[row] for row in rows):
        camera = splat_camera(cameras[image.camera_key])
        shrink = max(downsample, max(camera.width, camera.height) / longest_px)
        size = (max(1, round(camera.width / shrink)), max(1, round(camera.height / shrink)))
        views.append(View(camera, image.world_from_cam, *size, image.drive))
    return views + views_between(views, min(most - taken, round(1.5 * taken)), generator)
