"""Sizes of the pictures in the image store, and the layout of the files of one size."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from blocknerf.core.camera import Camera
from blocknerf.core.errors import UserError
from blocknerf.scene.scene import ImageRecord

PYRAMID = (1, 2, 4)
Sizes = dict[str, tuple[int, int]]
"""(height, width) in pixels of each camera's pictures, by the camera's key."""
Table = tuple[str, Camera, Path | None]
"""A table of directions: its key, its camera, and the file that holds it where no camera model does."""


@dataclass(frozen=True, slots=True)
class Level:
    """One size of the pictures as flat arrays. An image's pixels, and a camera's directions, are row-major."""

    rgb: np.ndarray  # [pixels, 3] uint8
    directions: np.ndarray  # [camera pixels, 3] float32, unit, camera axes
    valid: np.ndarray | None  # [pixels] uint8, 0 = ignore; None = all are valid
    depth_z_m: np.ndarray | None  # [pixels] float32 metres along the optical axis, 0 = unknown; None = all unknown
    offsets_m: np.ndarray | None  # [camera pixels, 3] float32, camera axes: where rays begin; None = in the centre


@dataclass(frozen=True, slots=True)
class LevelFiles:
    """The files behind the arrays of a Level; None if there is none."""

    rgb: Path
    valid: Path | None
    depth_z_m: Path | None

    @property
    def bytes_per_pixel(self) -> int:
        return 3 + (self.valid is not None) + 4 * (self.depth_z_m is not None)


@dataclass(frozen=True, slots=True)
class Layout:
    """Layout of the files of one level, which are called NAME.KIND."""

    name: str
    sizes: Sizes
    rgb_begin: dict[str, int]  # image id -> first pixel
    directions_begin: dict[str, int]  # table -> first pixel
    num_pixels: int
    num_directions: int


def pyramid(cameras: Mapping[str, Camera], downsample: int) -> list[Sizes]:
    """Sizes of the pictures at 1 / downsample, and at a half and a quarter of that if at least a pixel remains.

    Raises UserError if `downsample` leaves nothing of a picture.
    """
    smallest = min(min(camera.width, camera.height) for camera in cameras.values())
    if smallest < downsample:
        raise UserError(
            f"dataset.image_downsample={downsample} leaves nothing of an image whose shorter side "
            f"is {smallest} pixels; use a smaller number."
        )
    return [
        {key: (camera.height // factor, camera.width // factor) for key, camera in cameras.items()}
        for factor in (downsample * times for times in PYRAMID)
        if factor <= smallest
    ]


def bounded(sizes: Sizes, longer_side_px: int | None) -> Sizes:
    """Sizes with at most this many pixels on the longer side, in the same proportions; None: no limit."""
    if longer_side_px is None:
        return sizes
    return {key: _bounded(size, longer_side_px) for key, size in sizes.items()}


def _bounded(size: tuple[int, int], longer_side_px: int) -> tuple[int, int]:
    longer = max(size)
    height, width = (max(1, (side * longer_side_px + longer // 2) // longer) for side in size)
    return (height, width) if longer > longer_side_px else size


def levels_for(cameras: Mapping[str, Camera], downsample: int, longer_sides_px: Iterable[int | None]) -> list[Sizes]:
    """The pyramid, followed by the requested sizes that it lacks."""
    levels = pyramid(cameras, downsample)
    for longer_side_px in longer_sides_px:
        sizes = bounded(levels[0], longer_side_px)
        if sizes not in levels:
            levels.append(sizes)
    return levels


def covered(camera: Camera, factor: int) -> Camera:
    """Its picture without the remainder of `factor` at the right and below."""
    return replace(camera, width=camera.width // factor * factor, height=camera.height // factor * factor)


def table_of(image: ImageRecord) -> str:
    """The key of its table of directions: that of its camera, or a separate one."""
    return image.camera_key if image.rays_path is None else image.id


def tables_of(cameras: Mapping[str, Camera], images: Iterable[ImageRecord]) -> Iterator[Table]:
    """Every table of directions."""
    images = tuple(images)
    with_rays = [image for image in images if image.rays_path is not None]
    only_rays = {image.camera_key for image in with_rays} - {i.camera_key for i in images if i.rays_path is None}
    for key, camera in cameras.items():
        if key not in only_rays:
            yield key, camera, None
    for image in with_rays:
        yield image.id, cameras[image.camera_key], image.rays_path


def layout(name: str, cameras: Mapping[str, Camera], images: Iterable[ImageRecord], sizes: Sizes) -> Layout:
    """Images one behind the other, and tables likewise."""
    images = tuple(images)
    rgb_begin, directions_begin, num_pixels, num_directions = {}, {}, 0, 0
    for image in images:
        height, width = sizes[image.camera_key]
        rgb_begin[image.id] = num_pixels
        num_pixels += height * width
    camera_of = {image.id: image.camera_key for image in images}
    for table, _, _ in tables_of(cameras, images):
        height, width = sizes[camera_of.get(table, table)]
        directions_begin[table] = num_directions
        num_directions += height * width
    return Layout(name, sizes, rgb_begin, directions_begin, num_pixels, num_directions)


def map_level(folder: Path, layout: Layout) -> Level:
    def flat(kind: str, dtype: type, *shape: int) -> np.ndarray:
        return np.asarray(np.memmap(folder / f"{layout.name}.{kind}", dtype, "r", shape=shape))

    def optional(kind: str, dtype: type, *shape: int) -> np.ndarray | None:
        return flat(kind, dtype, *shape) if (folder / f"{layout.name}.{kind}").is_file() else None

    return Level(
        rgb=flat("rgb", np.uint8, layout.num_pixels, 3),
        directions=flat("directions", np.float32, layout.num_directions, 3),
        valid=optional("valid", np.uint8, layout.num_pixels),
        depth_z_m=optional("depth_z", np.float32, layout.num_pixels),
        offsets_m=optional("offsets", np.float32, layout.num_directions, 3),
    )
