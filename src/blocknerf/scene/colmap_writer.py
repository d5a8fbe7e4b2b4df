"""A COLMAP model (https://colmap.github.io/format.html). Ids count from 1 in the order of what is given.

As text a name ends at its first blank for COLMAP, so names with any are written binary.
"""

import io
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from blocknerf.core import disk
from blocknerf.core.camera import Camera
from blocknerf.core.files import write_bytes
from blocknerf.geometry.so3 import to_quaternion
from blocknerf.scene.colmap_module import pycolmap


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
    folder: Path,
    cameras: dict[str, Camera],
    images: Sequence[ModelImage],
    points: ModelPoints | None = None,
    binary: bool = False,
) -> None:
    """cameras, images and points3D in `folder`, as .txt, or as .bin where asked for or where text cannot hold a name.

    The same three of the other kind, which readers might take for them, are removed.
    """
    points = points or ModelPoints()
    ids = {key: number for number, key in enumerate(cameras, 1)}
    binary = binary or any("#" in image.name or len(image.name.split()) != 1 for image in images)
    (_write_binary if binary else _write_text)(folder, cameras, ids, images, points)
    for part in ("cameras", "images", "points3D"):
        disk.unlink(folder / f"{part}.{'txt' if binary else 'bin'}", missing_ok=True)


def _cam_from_world(image: ModelImage) -> tuple[float, ...]:
    """COLMAP's pose: a quaternion (w, x, y, z) and a translation."""
    rotation = image.world_from_cam[:, :3].T
    quaternion = to_quaternion(torch.from_numpy(np.ascontiguousarray(rotation))).numpy()
    return (*quaternion, *(-rotation @ image.world_from_cam[:, 3]))


# --- binary ---------------------------------------------------------------------------------------------------------

_OBSERVATION = np.dtype([("x", "<f8"), ("y", "<f8"), ("point_id", "<i8")])


def _write_binary(
    folder: Path, cameras: dict[str, Camera], ids: dict[str, int], images: Sequence[ModelImage], points: ModelPoints
) -> None:
    pieces = [_camera_bytes(ids[key], camera) for key, camera in cameras.items()]
    write_bytes(folder / "cameras.bin", _counted(pieces))
    pieces = [_image_bytes(number, image, ids[image.camera_key]) for number, image in enumerate(images, 1)]
    write_bytes(folder / "images.bin", _counted(pieces))
    write_bytes(
        folder / "points3D.bin", _counted([_point_bytes(points, row) for row in range(len(points.points_world))])
    )


def _counted(records: Sequence[bytes]) -> bytes:
    return struct.pack("<Q", len(records)) + b"".join(records)


def _camera_bytes(camera_id: int, camera: Camera) -> bytes:
    model = int(pycolmap.CameraModelId.__members__[camera.model])
    head = struct.pack("<IiQQ", camera_id, model, camera.width, camera.height)
    return head + struct.pack(f"<{len(camera.params)}d", *camera.params)


def _image_bytes(number: int, image: ModelImage, camera_id: int) -> bytes:
    seen = np.array([(x, y, row + 1) for x, y, row in image.observations], _OBSERVATION)
    head = struct.pack("<I7dI", number, *_cam_from_world(image), camera_id)
    return head + image.name.encode() + b"\0" + struct.pack("<Q", len(seen)) + seen.tobytes()


def _point_bytes(points: ModelPoints, row: int) -> bytes:
    track = [number for image, seen in (points.tracks[row] if points.tracks else ()) for number in (image + 1, seen)]
    where, colour = points.points_world[row].tolist(), points.points_rgb[row].tolist()
    head = struct.pack("<Q3d3BdQ", row + 1, *where, *colour, 0.0, len(track) // 2)
    return head + struct.pack(f"<{len(track)}I", *track)


# --- text -----------------------------------------------------------------------------------------------------------


def _write_text(
    folder: Path, cameras: dict[str, Camera], ids: dict[str, int], images: Sequence[ModelImage], points: ModelPoints
) -> None:
    lines = [_camera_line(ids[key], camera) for key, camera in cameras.items()]
    write_bytes(folder / "cameras.txt", "".join(lines).encode())
    lines = [_image_lines(number, image, ids[image.camera_key]) for number, image in enumerate(images, 1)]
    write_bytes(folder / "images.txt", "".join(lines).encode())
    write_bytes(folder / "points3D.txt", _point_lines(points).encode())


def _camera_line(camera_id: int, camera: Camera) -> str:
    numbers = " ".join(f"{p:.17g}" for p in camera.params)
    return f"{camera_id} {camera.model} {camera.width} {camera.height} {numbers}\n"


def _image_lines(number: int, image: ModelImage, camera_id: int) -> str:
    pose = " ".join(f"{v:.17g}" for v in _cam_from_world(image))
    seen = " ".join(f"{x:.6f} {y:.6f} {point + 1}" for x, y, point in image.observations)
    return f"{number} {pose} {camera_id} {image.name}\n{seen}\n"


def _point_lines(points: ModelPoints) -> str:
    lines = io.StringIO()
    for row, (xyz, rgb) in enumerate(zip(points.points_world, points.points_rgb, strict=True)):
        where, colour = " ".join(f"{v:.9g}" for v in xyz), " ".join(map(str, rgb))
        track = "".join(f" {image + 1} {seen}" for image, seen in (points.tracks[row] if points.tracks else ()))
        lines.write(f"{row + 1} {where} {colour} 0.0{track}\n")
    return lines.getvalue()
