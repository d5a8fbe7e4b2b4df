"""A COLMAP model as text (https://colmap.github.io/format.html). Ids count from 1 in the order of what is given."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from blocknerf.core.files import write_bytes
from blocknerf.geometry.so3 import to_quaternion
from blocknerf.scene.scene import Camera


@dataclass(frozen=True, slots=True)
class ModelImage:
    """A photograph with its pose; `observations` are (x, y, row of the point) in pixels."""

    name: str
    camera_key: str
    world_from_cam: np.ndarray  # [3, 4] float64
    observations: Sequence[tuple[float, float, int]] = ()


@dataclass(frozen=True, slots=True)
class ModelPoints:
    """Sparse points; `tracks[i]` lists (image, observation) of point i, by position."""

    points_world: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))  # [P, 3] metres
    points_rgb: np.ndarray = field(default_factory=lambda: np.zeros((0, 3), np.uint8))
    tracks: Sequence[Sequence[tuple[int, int]]] = ()


def write_colmap(
    folder: Path, cameras: dict[str, Camera], images: Sequence[ModelImage], points: ModelPoints | None = None
) -> None:
    """cameras.txt, images.txt and points3D.txt in `folder`."""
    points = points or ModelPoints()
    ids = {key: number for number, key in enumerate(cameras, 1)}
    lines = [_camera_line(ids[key], camera) for key, camera in cameras.items()]
    write_bytes(folder / "cameras.txt", "".join(lines).encode())
    lines = [_image_lines(number, image, ids[image.camera_key]) for number, image in enumerate(images, 1)]
    write_bytes(folder / "images.txt", "".join(lines).encode())
    write_bytes(folder / "points3D.txt", _point_lines(points).encode())


def _camera_line(camera_id: int, camera: Camera) -> str:
    numbers = " ".join(f"{p:.17g}" for p in camera.params)
    return f"{camera_id} {camera.model} {camera.width} {camera.height} {numbers}\n"


def _image_lines(number: int, image: ModelImage, camera_id: int) -> str:
    """COLMAP's pose is cam_from_world: a quaternion (w, x, y, z) and a translation."""
    cam_from_world = image.world_from_cam[:, :3].T
    quaternion = to_quaternion(torch.from_numpy(np.ascontiguousarray(cam_from_world))).numpy()
    translation = -cam_from_world @ image.world_from_cam[:, 3]
    pose = " ".join(f"{v:.17g}" for v in (*quaternion, *translation))
    seen = " ".join(f"{x:.6f} {y:.6f} {point + 1}" for x, y, point in image.observations)
    return f"{number} {pose} {camera_id} {image.name}\n{seen}\n"


def _point_lines(points: ModelPoints) -> str:
    lines = io.StringIO()
    for row, (xyz, rgb) in enumerate(zip(points.points_world, points.points_rgb, strict=True)):
        where, colour = " ".join(f"{v:.9g}" for v in xyz), " ".join(map(str, rgb))
        track = "".join(f" {image + 1} {seen}" for image, seen in (points.tracks[row] if points.tracks else ()))
        lines.write(f"{row + 1} {where} {colour} 0.0{track}\n")
    return lines.getvalue()
