"""The memory-mapped store: every photograph decoded once, at three sizes, with a table of directions per camera.

Flat files for each level of the pyramid, in the order of the manifest's images and cameras: `level_N.rgb`
(uint8 [pixels, 3]), `level_N.directions` (float32 [pixels of all cameras, 3]); where any pixel is masked or cannot be
undistorted, `level_N.valid` (uint8 [pixels]); where any image has depth, `level_N.depth_z` (float32 [pixels], metres
along the optical axis, 0 = unknown). An image with rays of its own (ImageRecord.rays_path) has its own table; where any
of these begin beside their camera's centre, `level_N.offsets` (float32 as `directions`, metres in camera axes).
Nothing is ever read wholly into memory.
"""

import hashlib
import math
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from rich.progress import Progress

from blocknerf.core import disk
from blocknerf.core.config import StageConfig
from blocknerf.core.errors import UserError
from blocknerf.core.files import fingerprint, write_json
from blocknerf.core.lock import locked_folder
from blocknerf.core.logging import log
from blocknerf.core.progress import bars
from blocknerf.core.reading import read_json
from blocknerf.core.stored import Text, Whole, fitted
from blocknerf.core.system_errors import reason, remedy
from blocknerf.core.types import RayBatch
from blocknerf.runtime.bus_error import on_bus_error
from blocknerf.scene.depth import DEPTH_ERRORS, DEPTH_VERSION, read_depth_z_m, reduced_depth
from blocknerf.scene.photographs import DECODE_ERRORS, area_mean, read_masks, read_picture, whole_blocks
from blocknerf.scene.ray_tables import has_origins, reduced_rays
from blocknerf.scene.rays import OPTICAL_AXIS, camera_directions, rays_from_directions
from blocknerf.scene.scene import Camera, ImageRecord, Scene

STORE_VERSION = 1
_LARGE_PIXELS = 1 << 26
_ONE_LARGE_AT_A_TIME = Lock()
"""A photograph of 200 megapixels takes 0.8 GB while it is decoded, and more where it is not RGB."""
_PYRAMID = (1, 2, 4)
_KINDS = ("rgb", "directions", "valid", "depth_z", "offsets")


@dataclass(frozen=True, slots=True)
class Level:
    """One size of the pyramid as flat arrays. An image's pixels, and a camera's directions, are row-major."""

    rgb: np.ndarray  # [pixels, 3] uint8
    directions: np.ndarray  # [camera pixels, 3] float32, unit, camera axes
    valid: np.ndarray | None  # [pixels] uint8, 0 = leave out; None = all are good
    depth_z_m: np.ndarray | None  # [pixels] float32 metres along the optical axis, 0 = unknown; None = all are
    offsets_m: np.ndarray | None  # [camera pixels, 3] float32, camera axes: where rays begin; None = in the centre


@dataclass(frozen=True, slots=True)
class LevelFiles:
    """The files behind the arrays of a Level; None where there is none."""

    rgb: Path
    valid: Path | None
    depth_z_m: Path | None

    @property
    def bytes_per_pixel(self) -> int:
        return 3 + (self.valid is not None) + 4 * (self.depth_z_m is not None)


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where everything stands in the files of one level."""

    factor: int
    sizes: dict[str, tuple[int, int]]  # image id -> (height, width)
    rgb_begin: dict[str, int]  # image id -> first pixel
    directions_begin: dict[str, int]  # table -> first pixel
    num_pixels: int
    num_directions: int


class ImageStore:
    """The pixels and rays of a scene, opened with `ImageStore.open`; looked up by image id, never by position.

    `image_ids` are the images that could be decoded, by name; `skipped` lists the others as (name, reason).
    """

    def __init__(self, folder: Path, scene: Scene, layouts: list[_Layout], skipped: list[tuple[str, str]]) -> None:
        names_skipped = {name for name, _ in skipped}
        self.records = {image.id: image for image in scene.images if image.name not in names_skipped}
        self.image_ids = tuple(self.records)
        self.skipped = tuple(skipped)
        self._folder, self._layouts = folder, layouts
        self._levels = [_map_level(folder, number, layout) for number, layout in enumerate(layouts)]

    @classmethod
    def open(cls, scene: Scene, downsample: int, folder: Path, progress: bool = True, threads: int = 2) -> "ImageStore":
        """Opens the store in `folder`, making it first where it is missing, damaged or of other photographs.

        Level 0 is the photographs at 1 / `downsample`, levels 1 and 2 at half and a quarter of that; `threads` decode
        them. Raises UserError when the disk is full, fewer than two images can be decoded, or `downsample` leaves
        nothing of an image.
        """
        layouts = _layouts(scene, downsample)
        content_hash = _content_hash(scene, downsample)
        manifest = folder / "manifest.json"
        with _alone(folder):
            stale = _why_stale(folder, manifest, content_hash)
            if stale is not None:
                log.info("%s; decoding %d images into %s.", stale, len(scene.images), folder)
                _build(folder, scene, layouts, content_hash, progress, threads)
            skipped = _read_manifest(manifest).skipped
            if len(scene.images) - len(skipped) < 2:
                reasons = "; ".join(f"{name}: {reason}" for name, reason in skipped[:8])
                raise UserError(f"Fewer than two photographs of {scene.root} can be decoded. Left out: {reasons}.")
        on_bus_error(
            "A file was cut short while it was read, or its disk failed (SIGBUS). Does another program write to the "
            f"image store {folder}? Run the same command again: a store that is damaged is made anew."
        )
        return cls(folder, scene, layouts, skipped)

    @property
    def num_levels(self) -> int:
        return len(self._levels)

    def level(self, level: int = 0) -> Level:
        return self._levels[level]

    def files(self, level: int = 0) -> LevelFiles:
        """To be read in large pieces, where memory does not hold what `level` maps."""

        def named(kind: str, array: np.ndarray | None) -> Path | None:
            return None if array is None else self._folder / f"level_{level}.{kind}"

        arrays = self._levels[level]
        rgb = self._folder / f"level_{level}.rgb"
        return LevelFiles(rgb, named("valid", arrays.valid), named("depth_z", arrays.depth_z_m))

    def longer_sides(self, image_ids: Iterable[str]) -> list[int]:
        """Of the largest of these images, in pixels, level by level."""
        ids = tuple(image_ids)
        return [max(max(layout.sizes[image_id]) for image_id in ids) for layout in self._layouts]

    def size(self, image_id: str, level: int = 0) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self._layouts[level].sizes[image_id]

    def first_pixels(self, image_id: str, level: int = 0) -> tuple[int, int]:
        """Where the image begins in `Level.rgb`, and its camera in `Level.directions`."""
        layout = self._layouts[level]
        return layout.rgb_begin[image_id], layout.directions_begin[_table_of(self.records[image_id])]

    def rgb(self, image_id: str, level: int = 0) -> np.ndarray:
        """uint8 [H, W, 3], a view of the file."""
        return self._view(self._levels[level].rgb, self.first_pixels(image_id, level)[0], image_id, level)

    def valid(self, image_id: str, level: int = 0) -> np.ndarray:
        """bool [H, W]: false where a mask hides the pixel or the lens does not reach it."""
        valid = self._levels[level].valid
        if valid is None:
            return np.ones(self.size(image_id, level), bool)
        return self._view(valid, self.first_pixels(image_id, level)[0], image_id, level) != 0

    def reached(self, image_id: str, level: int = 0) -> np.ndarray:
        """bool [H, W]: false where the lens does not reach the pixel, whatever masks say.

        Told by the direction that stands in for none; a masked pixel that looks exactly along the axis passes for one.
        """
        away_from_axis = (self.directions_cam(image_id, level) != OPTICAL_AXIS).any(-1)
        return away_from_axis | self.valid(image_id, level)

    def depth_z_m(self, image_id: str, level: int = 0) -> np.ndarray | None:
        """float32 [H, W] metres along the optical axis, 0 where unknown; None in a scene read without depth."""
        depth = self._levels[level].depth_z_m
        return None if depth is None else self._view(depth, self.first_pixels(image_id, level)[0], image_id, level)

    def directions_cam(self, image_id: str, level: int = 0) -> np.ndarray:
        """float32 [H, W, 3], unit, in camera axes; the optical axis where the lens does not reach."""
        return self._view(self._levels[level].directions, self.first_pixels(image_id, level)[1], image_id, level)

    def rays(self, image_id: str, level: int = 0) -> RayBatch:
        """World rays of the whole image in row-major order, without image slots."""
        pose = self.records[image_id].world_from_cam
        return rays_from_directions(self.directions_cam(image_id, level), pose, self.offsets_m(image_id, level))

    def offsets_m(self, image_id: str, level: int = 0) -> np.ndarray | None:
        """float32 [H, W, 3], where rays begin beside the centre, in camera axes; None where all begin in theirs."""
        offsets = self._levels[level].offsets_m
        return None if offsets is None else self._view(offsets, self.first_pixels(image_id, level)[1], image_id, level)

    def _view(self, flat: np.ndarray, begin: int, image_id: str, level: int) -> np.ndarray:
        height, width = self.size(image_id, level)
        return flat[begin : begin + height * width].reshape(height, width, *flat.shape[1:])


def level_of_stage(stage: StageConfig, longer_sides: list[int]) -> int:
    """The smallest level whose longer side has the pixels that a stage wants; see StageConfig.resolution.

    Raises UserError where every level is too small.
    """
    large_enough = [level for level, side in enumerate(longer_sides) if side >= (stage.resolution or longer_sides[0])]
    if not large_enough:
        raise UserError(
            f"Stage {stage.name!r} of training.stage_training wants images of resolution {stage.resolution}, but the "
            f"longer side of the largest has {longer_sides[0]} pixels. Lower its resolution, or "
            "dataset.image_downsample."
        )
    return large_enough[-1]


def pyramid_sides(camera: Camera, downsample: int) -> list[int]:
    """Of a camera's pictures in the store: the longer side in pixels, level by level."""
    return [max(camera.width, camera.height) // (downsample * times) for times in _PYRAMID]


def _layouts(scene: Scene, downsample: int) -> list[_Layout]:
    smallest = min(min(camera.width, camera.height) for camera in scene.cameras.values())
    if smallest < downsample:
        raise UserError(
            f"dataset.image_downsample={downsample} leaves nothing of an image whose shorter side "
            f"is {smallest} pixels; use a smaller number."
        )
    return [_layout(scene, downsample * times) for times in _PYRAMID if downsample * times <= smallest]


def _layout(scene: Scene, factor: int) -> _Layout:
    sizes, rgb_begin, directions_begin, num_pixels, num_directions = {}, {}, {}, 0, 0
    for image in scene.images:
        camera = scene.cameras[image.camera_key]
        sizes[image.id] = (camera.height // factor, camera.width // factor)
        rgb_begin[image.id] = num_pixels
        num_pixels += sizes[image.id][0] * sizes[image.id][1]
    for table, camera, _ in _tables(scene):
        directions_begin[table] = num_directions
        num_directions += (camera.height // factor) * (camera.width // factor)
    return _Layout(factor, sizes, rgb_begin, directions_begin, num_pixels, num_directions)


def _table_of(image: ImageRecord) -> str:
    """The key of its table of directions: its camera's, or its own."""
    return image.camera_key if image.rays_path is None else image.id


def _tables(scene: Scene) -> Iterator[tuple[str, Camera, Path | None]]:
    """Every table of directions: its key, its camera, and the file that holds it where no camera model does."""
    own = [image for image in scene.images if image.rays_path is not None]
    only_own = {image.camera_key for image in own} - {i.camera_key for i in scene.images if i.rays_path is None}
    for key, camera in scene.cameras.items():
        if key not in only_own:
            yield key, camera, None
    for image in own:
        yield image.id, scene.cameras[image.camera_key], image.rays_path


def _map_level(folder: Path, number: int, layout: _Layout) -> Level:
    def flat(kind: str, dtype: type, *shape: int) -> np.ndarray:
        return np.asarray(np.memmap(folder / f"level_{number}.{kind}", dtype, "r", shape=shape))

    def optional(kind: str, dtype: type, *shape: int) -> np.ndarray | None:
        return flat(kind, dtype, *shape) if (folder / f"level_{number}.{kind}").is_file() else None

    return Level(
        rgb=flat("rgb", np.uint8, layout.num_pixels, 3),
        directions=flat("directions", np.float32, layout.num_directions, 3),
        valid=optional("valid", np.uint8, layout.num_pixels),
        depth_z_m=optional("depth_z", np.float32, layout.num_pixels),
        offsets_m=optional("offsets", np.float32, layout.num_directions, 3),
    )


def _alone(folder: Path) -> AbstractContextManager[object]:
    """Who comes while another decodes waits for it, and finds it done; what nobody can write to needs no lock."""
    if folder.is_dir() and not os.access(folder, os.W_OK):
        return nullcontext()
    return locked_folder(folder, f"The image store {folder} is being made", wait_s=math.inf)


# --- is what lies there still right? --------------------------------------------------------------------------------


def _content_hash(scene: Scene, downsample: int) -> str:
    """Over everything the files are made from: photographs (by id), cameras, masks, depth. Poses are not among it."""
    digest = hashlib.sha256(f"{STORE_VERSION} {downsample}".encode())
    cameras = {key: f"{key} {camera}" for key, camera in scene.cameras.items()}
    for image in scene.images:
        digest.update(f"{image.id} {cameras[image.camera_key]}".encode())
        if image.alpha != "opaque":
            digest.update(image.alpha.encode())
        if image.depth_unit_m is not None:
            digest.update(f"depth in {image.depth_unit_m} m".encode())
        for path in image.mask_paths:
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        for path in (image.depth_path, image.rays_path):
            if path is not None:
                digest.update(f"{fingerprint(path)}".encode())
    if any(image.depth_path is not None for image in scene.images):
        digest.update(f"depth {DEPTH_VERSION}".encode())
    return digest.hexdigest()


def _why_stale(folder: Path, manifest: Path, content_hash: str) -> str | None:
    if not manifest.is_file():
        return "There is no image store yet"
    try:
        made = _read_manifest(manifest)
        if made.version != STORE_VERSION or made.content_hash != content_hash:
            return "The image store is of other photographs, masks or sizes"
        for name, expected in made.files.items():
            if fingerprint(folder / name) != expected:
                return f"The image store's file {folder / name} is damaged"
    except UserError:
        return f"The image store's {manifest} is damaged"
    return None


@dataclass(frozen=True)
class _Manifest:
    version: Whole
    content_hash: Text
    files: dict[Text, Any]  # by name its fingerprint
    skipped: list[tuple[Text, Text]]


def _read_manifest(path: Path) -> _Manifest:
    return fitted(_Manifest, read_json(path, "image store"), "image store", path, "Remove its folder.")


# --- making it ------------------------------------------------------------------------------------------------------


class _Parts:
    """Files being made under temporary names. They take their places together at the end, or vanish."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open: dict[str, tuple[Path, int]] = {}

    def create(self, name: str, num_bytes: int) -> None:
        """Reserves the space now, so that a full disk is an error here and not a crash later."""
        path = disk.temporary(self.folder / name)
        self._open[name] = (path, disk.reserve(path, num_bytes))

    def write(self, name: str, array: np.ndarray, at_byte: int) -> None:
        disk.write_at(self._open[name][1], np.ascontiguousarray(array).data, at_byte)

    def finish(self) -> None:
        for name, (path, handle) in self._open.items():
            disk.fsync(handle)
            disk.replace(path, self.folder / name)

    def close(self) -> None:
        for path, handle in self._open.values():
            os.close(handle)
            if path.exists():
                disk.unlink(path)


def _level_files(folder: Path) -> list[Path]:
    return sorted(path for kind in _KINDS for path in folder.glob(f"level_[0-9].{kind}"))


def _build(folder: Path, scene: Scene, layouts: list[_Layout], content_hash: str, progress: bool, threads: int) -> None:
    parts = _Parts(folder)
    try:
        disk.make_folder(folder)
        disk.unlink(folder / "manifest.json", missing_ok=True)
        skipped = _fill(parts, scene, layouts, progress, threads)
        for stale in _level_files(folder):
            disk.unlink(stale)
        parts.finish()
    except OSError as error:
        raise UserError(
            f"Cannot write the image store in {folder}: {reason(error)}. {remedy(error).capitalize()}, then run the "
            "same command again; a larger dataset.image_downsample makes the store smaller."
        ) from error
    finally:
        parts.close()
    for name, why in skipped:
        log.warning("The image %s is left out: %s.", name, why)
    files = {path.name: fingerprint(path) for path in _level_files(folder)}
    manifest = {"version": STORE_VERSION, "content_hash": content_hash, "skipped": skipped, "files": files}
    write_json(folder / "manifest.json", manifest)


def _fill(parts: _Parts, scene: Scene, layouts: list[_Layout], progress: bool, threads: int) -> list[tuple[str, str]]:
    with_offsets = any(path is not None and has_origins(path) for _, _, path in _tables(scene))
    for number, layout in enumerate(layouts):
        parts.create(f"level_{number}.directions", layout.num_directions * 12)
        if with_offsets:
            parts.create(f"level_{number}.offsets", layout.num_directions * 12)  # zeros: in the centre
    unseen: dict[tuple[str, int], np.ndarray] = {}
    with bars(progress) as shown:
        tasks = [partial(_store_directions, parts, table, layouts) for table in _tables(scene)]
        for found in _in_parallel(tasks, threads, shown, "Cameras"):
            unseen.update(found)
        any_invalid = bool(unseen) or any(image.mask_paths or image.alpha == "mask" for image in scene.images)
        for number, layout in enumerate(layouts):
            parts.create(f"level_{number}.rgb", layout.num_pixels * 3)
            if any_invalid:
                parts.create(f"level_{number}.valid", layout.num_pixels)
        tasks = [partial(_store_image, parts, image, layouts, unseen, any_invalid) for image in scene.images]
        problems = _in_parallel(tasks, threads, shown, "Photographs")
        _fill_depth(parts, scene, layouts, threads, shown)
        return [(image.name, why) for image, why in zip(scene.images, problems, strict=True) if why is not None]


def _fill_depth(parts: _Parts, scene: Scene, layouts: list[_Layout], threads: int, shown: Progress) -> None:
    """Raises UserError where images name depth maps and none can be used; one alone is only named."""
    images = [image for image in scene.images if image.depth_path is not None]
    if not images:
        return
    for number, layout in enumerate(layouts):
        parts.create(f"level_{number}.depth_z", layout.num_pixels * 4)  # zeros: unknown
    tasks = [partial(_store_depth, parts, image, scene.cameras[image.camera_key], layouts) for image in images]
    problems = [problem for problem in _in_parallel(tasks, threads, shown, "Depth maps") if problem is not None]
    if len(problems) == len(images):
        raise UserError(
            f"dataset.use_depth is true, but no depth map of {scene.root} can be used: {problems[0]}. "
            "Mend them or set dataset.use_depth=false."
        )
    for problem in problems:
        log.warning("An image is learned without its depth: %s.", problem)


def _in_parallel(tasks: list[Callable[[], Any]], threads: int, shown: Progress, title: str) -> Iterable[Any]:
    """Results in the order of the tasks. A task keeps its pixels to itself, so memory holds one image a thread."""
    with ThreadPoolExecutor(threads) as pool:
        yield from shown.track(pool.map(lambda task: task(), tasks), len(tasks), description=title)


def _store_directions(
    parts: _Parts, table: tuple[str, Camera, Path | None], layouts: list[_Layout]
) -> dict[tuple[str, int], np.ndarray]:
    """Writes one table at every level; returns where (bool [H, W] per key and level) the lens does not reach."""
    key, camera, path = table
    unseen = {}
    for number, layout in enumerate(layouts):
        height, width = camera.height // layout.factor, camera.width // layout.factor
        if path is None:
            covered = replace(camera, width=width * layout.factor, height=height * layout.factor)
            directions = camera_directions(covered, width, height)
        else:
            rays = reduced_rays(path, camera.width, camera.height, layout.factor)
            directions = rays[..., :3]
            if rays.shape[2] == 6:
                parts.write(f"level_{number}.offsets", rays[..., 3:], layout.directions_begin[key] * 12)
        missing = np.isnan(directions).any(axis=2)
        if missing.any():
            directions[missing] = OPTICAL_AXIS
            unseen[key, number] = missing
        parts.write(f"level_{number}.directions", directions, layout.directions_begin[key] * 12)
    return unseen


def _store_image(
    parts: _Parts,
    image: ImageRecord,
    layouts: list[_Layout],
    unseen: dict[tuple[str, int], np.ndarray],
    any_invalid: bool,
) -> str | None:
    """Writes one photograph at every level; returns why it cannot be used, if so."""
    height, width = layouts[0].sizes[image.id]
    is_large = height * width * layouts[0].factor ** 2 > _LARGE_PIXELS
    with _ONE_LARGE_AT_A_TIME if is_large else nullcontext():
        return _write_image(parts, image, layouts, unseen, any_invalid)


def _write_image(
    parts: _Parts,
    image: ImageRecord,
    layouts: list[_Layout],
    unseen: dict[tuple[str, int], np.ndarray],
    any_invalid: bool,
) -> str | None:
    try:
        photograph, opaque = read_picture(image.path, image.orientation, image.alpha)
        mask = read_masks(image.mask_paths, photograph.size, image.orientation)
    except UserError:  # nothing is chosen for its transparent pixels, which no image alone is left out for
        raise
    except DECODE_ERRORS as error:
        return f"{image.path} or its mask cannot be decoded ({error})"
    for number, layout in enumerate(layouts):
        begin = layout.rgb_begin[image.id]
        parts.write(f"level_{number}.rgb", area_mean(photograph, layout.factor), begin * 3)
        if any_invalid:
            valid = np.ones(layout.sizes[image.id], bool)
            for kept in (mask, opaque):
                if kept is not None:
                    valid &= whole_blocks(kept, layout.factor)
            if (_table_of(image), number) in unseen:
                valid &= ~unseen[_table_of(image), number]
            parts.write(f"level_{number}.valid", valid.astype(np.uint8), begin)
    return None


def _store_depth(parts: _Parts, image: ImageRecord, camera: Camera, layouts: list[_Layout]) -> str | None:
    """Writes one depth map at every level; returns why it cannot be used, if so."""
    assert image.depth_path is not None
    try:
        depth_z_m = read_depth_z_m(
            image.depth_path, (camera.width, camera.height), image.orientation, image.depth_unit_m
        )
    except DEPTH_ERRORS as error:
        return f"{image.depth_path} cannot be read as depth ({error})"
    for number, layout in enumerate(layouts):
        parts.write(f"level_{number}.depth_z", reduced_depth(depth_z_m, layout.factor), layout.rgb_begin[image.id] * 4)
    return None
