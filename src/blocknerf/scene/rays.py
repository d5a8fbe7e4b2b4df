"""Cameras to rays: every COLMAP camera model becomes a table of unit directions, one per pixel."""

from dataclasses import replace
from functools import cache

import numpy as np
import torch
from jaxtyping import Float32, Float64

from blocknerf.core.camera import Camera
from blocknerf.core.errors import UserError
from blocknerf.core.types import CameraView, RayBatch
from blocknerf.scene.colmap_module import pycolmap
from blocknerf.scene.radii_numba import picture_radii

_CHUNK_PIXELS = 1 << 18
_ROUND_TRIP_PX = 0.05
OPTICAL_AXIS = np.array([0, 0, 1], np.float32)


@cache
def parameter_counts() -> dict[str, int]:
    """How many parameters each of COLMAP's camera models has."""
    models = (name for name in pycolmap.CameraModelId.__members__ if name != "INVALID")
    return {name: len(pycolmap.Camera.create_from_model_name(1, name, 1.0, 2, 2).params) for name in models}


def colmap_camera(camera: Camera) -> pycolmap.Camera:
    """Raises UserError for a wrong number of parameters, on which pycolmap would end the process."""
    expected = parameter_counts().get(camera.model)
    if len(camera.params) != expected:
        raise UserError(
            f"A camera has the model {camera.model!r} and {len(camera.params)} parameters; "
            + ("COLMAP knows no such model." if expected is None else f"this model has {expected}.")
        )
    return pycolmap.Camera(model=camera.model, width=camera.width, height=camera.height, params=list(camera.params))


def rescale_camera(camera: Camera, width: int, height: int) -> Camera:
    """The camera of the same picture stored at `width` x `height` pixels."""
    scaled = colmap_camera(camera)
    scaled.rescale(width, height)
    return Camera(camera.model, width, height, tuple(float(p) for p in scaled.params))


def focal_lengths(camera: Camera) -> tuple[float, ...]:
    """One or two focal lengths in pixels; empty for an equirectangular camera."""
    return tuple(camera.params[i] for i in colmap_camera(camera).focal_length_idxs())


def directions_at(camera: Camera, pixels_xy: Float64[np.ndarray, "n 2"]) -> Float64[np.ndarray, "n 3"]:
    """Unit directions in camera axes at points of the image (pixels, the first pixel's centre at 0.5, 0.5).

    NaN where the distortion cannot be undone, or undoing it does not lead back to the same pixel.
    """
    model = colmap_camera(camera)
    directions = np.asarray(model.cam_ray_from_img(pixels_xy))
    again_xy = np.asarray(model.img_from_cam(directions))
    with np.errstate(invalid="ignore"):
        astray = np.abs(again_xy - pixels_xy).max(axis=1) > _ROUND_TRIP_PX
    directions[astray] = np.nan
    return directions


def pixels_of(camera: Camera, points_cam: Float64[np.ndarray, "n 3"]) -> Float64[np.ndarray, "n 2"]:
    """Where points in camera axes appear in the full image, in pixels; NaN behind the camera."""
    return np.asarray(colmap_camera(camera).img_from_cam(points_cam))


def camera_directions(camera: Camera, width: int, height: int) -> Float32[np.ndarray, "h w 3"]:
    """Unit directions in camera axes at the pixel centres of the camera's image resized to `width` x `height`.

    Pixel (column i, row j) looks through the point ((i + 1/2) W / width, (j + 1/2) H / height) of the full image.
    NaN where the distortion cannot be undone.
    """
    directions = np.empty((height, width, 3), np.float32)
    columns_x = (np.arange(width) + 0.5) * (camera.width / width)
    rows_y = (np.arange(height) + 0.5) * (camera.height / height)
    step = max(1, _CHUNK_PIXELS // width)
    for row in range(0, height, step):
        ys, xs = np.meshgrid(rows_y[row : row + step], columns_x, indexing="ij")
        pixels_xy = np.stack([xs.ravel(), ys.ravel()], axis=1)
        directions[row : row + step] = directions_at(camera, pixels_xy).reshape(-1, width, 3)
    return directions


def camera_rays(camera: Camera, world_from_cam: np.ndarray, width: int, height: int) -> RayBatch:
    """World rays of a whole picture in row-major order, without image slots.

    `world_from_cam` is [3, 4]. Pixels that the lens never sees (see `camera_directions`) look along the optical axis.
    """
    directions = camera_directions(camera, width, height)
    directions[np.isnan(directions).any(axis=2)] = OPTICAL_AXIS
    return rays_of_view(camera, directions, world_from_cam)


def rays_of_view(camera: Camera, directions_cam: Float32[np.ndarray, "h w 3"], world_from_cam: np.ndarray) -> RayBatch:
    """`rays_from_directions` of the camera's image, resized to as many pixels as there are directions."""
    height, width = directions_cam.shape[:2]
    pose = torch.from_numpy(np.array(world_from_cam, dtype=np.float64))
    view = CameraView(camera, pose, width, height, torch.arange(height * width))
    return replace(rays_from_directions(directions_cam, world_from_cam), view=view)


def rays_from_directions(
    directions_cam: Float32[np.ndarray, "h w 3"],
    world_from_cam: np.ndarray,
    offsets_m: Float32[np.ndarray, "h w 3"] | None = None,
) -> RayBatch:
    """World rays, row-major, of a picture whose directions in camera axes are given.

    `offsets_m`: their origins relative to the camera's centre, in its axes (default: the centre).
    """
    rotation = torch.from_numpy(np.ascontiguousarray(world_from_cam[:, :3], dtype=np.float32))
    center = torch.from_numpy(np.ascontiguousarray(world_from_cam[:, 3], dtype=np.float32))
    height, width = directions_cam.shape[:2]
    flat = np.array(directions_cam, np.float32).reshape(-1, 3)
    directions = torch.from_numpy(flat) @ rotation.T
    origins = center.expand_as(directions).contiguous()
    if offsets_m is not None:
        origins = origins + torch.from_numpy(np.array(offsets_m).reshape(-1, 3)) @ rotation.T
    return RayBatch(
        origins=origins,
        directions=directions,
        image_slots=torch.full((len(directions),), -1, dtype=torch.int64),
        radii=torch.from_numpy(picture_radii(flat, width, height)),
    )
