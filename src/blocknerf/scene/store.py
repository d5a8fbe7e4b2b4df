"""The memory-mapped store: every photograph decoded once, at three sizes, with a table of directions per camera.

Flat files for each level of the pyramid, in the order of the manifest's images and cameras: `level_N.rgb` (uint8
[pixels, 3]), `level_N.directions` (float32 [pixels of all cameras, 3]); where any pixel is masked or cannot be
undistorted, `level_N.valid` (uint8 [pixels]); where any image has depth, `level_N.depth_z` (float32 [pixels], metres
along the optical axis, 0 = unknown). An image with a table of rays (ImageRecord.rays_path) has a separate table; if any
of these rays does not begin at its camera's centre, `level_N.offsets` (float32 as `directions`, metres in camera axes).
A size that a training stage needs and the pyramid lacks is stored beside it (see scene/stage_levels.py). Nothing is
ever read completely into memory.
"""

import hashlib
from collections.abc import Iterable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from threading import Lock

import numpy as np
from rich.progress import Progress

from blocknerf.core.camera import Camera
from blocknerf.core.errors import UserError
from blocknerf.core.files import fingerprint
from blocknerf.core.logging import log
from blocknerf.core.progress import bars
from blocknerf.core.types import RayBatch
from blocknerf.runtime.bus_error import on_bus_error
from blocknerf.scene.depth import DEPTH_ERRORS, DEPTH_VERSION, read_depth_z_m, reduced_depth
from blocknerf.scene.levels import (
    PYRAMID,
    Layout,
    Level,
    LevelFiles,
    Table,
    covered,
    layout,
    map_level,
    pyramid,
    table_of,
    tables_of,
)
from blocknerf.scene.photographs import DECODE_ERRORS, area_mean, read_masks, read_picture, whole_blocks
from blocknerf.scene.ray_tables import has_origins, reduced_rays
from blocknerf.scene.rays import OPTICAL_AXIS, camera_directions, rays_from_directions, rays_of_view
from blocknerf.scene.scene import ImageRecord, Scene
from blocknerf.scene.store_files import (
    KINDS,
    STAGE_FILES,
    STORE_VERSION,
    Parts,
    alone,
    in_parallel,
    read_manifest,
    replaced,
    why_stale,
    write_manifest,
)

_LARGE_PIXELS = 1 << 26
_ONE_LARGE_AT_A_TIME = Lock()
"""A photograph of 200 megapixels takes 0.8 GB while it is decoded, and more if it is not RGB."""
_FILES = tuple(f"level_[0-9].{kind}" for kind in KINDS)


class ImageStore:
    """The pixels and rays of a scene, opened with `ImageStore.open`; looked up by image id, never by position.

    `image_ids` are the images that could be decoded, by name; `skipped` lists the others as (name, reason).
    """

    def __init__(
        self,
        folder: Path,
        scene: Scene,
        downsample: int,
        layouts: list[Layout],
        content_hash: str,
        skipped: list[tuple[str, str]],
    ) -> None:
        names_skipped = {name for name, _ in skipped}
        self.records = {image.id: image for image in scene.images if image.name not in names_skipped}
        self.image_ids = tuple(self.records)
        self.skipped = tuple(skipped)
        self.folder, self.content_hash, self.layouts = folder, content_hash, list(layouts)
        self._downsample = downsample
        self.cameras = {key: covered(camera, downsample) for key, camera in scene.cameras.items()}
        """Cameras of level 0."""
        self._levels = [map_level(folder, layout) for layout in layouts]
        self.num_levels = len(layouts)
        """Number of levels of the pyramid; levels for stages follow."""

    @classmethod
    def open(cls, scene: Scene, downsample: int, folder: Path, progress: bool = True, threads: int = 2) -> "ImageStore":
        """Opens the store in `folder`; makes it first if it is missing, damaged or of other photographs.

        Level 0 is the photographs at 1 / `downsample`, levels 1 and 2 at half and a quarter of that; `threads` decode
        them. Raises UserError if the disk is full, fewer than two images can be decoded, or `downsample` leaves nothing
        of an image.
        """
        sizes = pyramid(scene.cameras, downsample)
        layouts = [layout(f"level_{number}", scene.cameras, scene.images, of_it) for number, of_it in enumerate(sizes)]
        content_hash = _content_hash(scene, downsample)
        manifest = folder / "manifest.json"
        with alone(folder):
            stale = why_stale(manifest, content_hash)
            if stale is not None:
                log.info("%s; decoding %d images into %s.", stale, len(scene.images), folder)
                _build(folder, scene, _reductions(downsample, layouts), content_hash, progress, threads)
            skipped = read_manifest(manifest).skipped
            if len(scene.images) - len(skipped) < 2:
                reasons = "; ".join(f"{name}: {reason}" for name, reason in skipped[:8])
                raise UserError(f"Fewer than two photographs of {scene.root} can be decoded. Skipped: {reasons}.")
        on_bus_error(
            "A file was cut short while it was read, or its disk failed (SIGBUS). Does another program write to the "
            f"image store {folder}? Run the same command again: a store that is damaged is made anew."
        )
        return cls(folder, scene, downsample, layouts, content_hash, skipped)

    def add_level(self, layout: Layout) -> int:
        """Opens a level whose files are in `folder`; returns its number."""
        self._levels.append(map_level(self.folder, layout))
        self.layouts.append(layout)
        return len(self.layouts) - 1

    def level(self, level: int = 0) -> Level:
        return self._levels[level]

    def files(self, level: int = 0) -> LevelFiles:
        """For reading in large pieces, if memory cannot hold what `level` maps."""

        def named(kind: str, array: np.ndarray | None) -> Path | None:
            return None if array is None else self.folder / f"{self.layouts[level].name}.{kind}"

        arrays = self._levels[level]
        rgb = self.folder / f"{self.layouts[level].name}.rgb"
        return LevelFiles(rgb, named("valid", arrays.valid), named("depth_z", arrays.depth_z_m))

    def longer_side(self, image_ids: Iterable[str], level: int = 0) -> int:
        """Of the largest of these images, in pixels."""
        return max(max(self.size(image_id, level)) for image_id in image_ids)

    def size(self, image_id: str, level: int = 0) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.layouts[level].sizes[self.records[image_id].camera_key]

    def scale(self, image_id: str, level: int = 0) -> tuple[float, float]:
        """Pixels of the level per pixel of the photograph, along its width and height.

        Pictures of the pyramid leave out a remainder at the right and below, so this is not the ratio of their sides.
        """
        if level < self.num_levels:
            scale = 1 / (self._downsample * PYRAMID[level])
            return scale, scale
        (height, width), (full_height, full_width) = self.size(image_id, level), self.size(image_id)
        return width / (full_width * self._downsample), height / (full_height * self._downsample)

    def first_pixels(self, image_id: str, level: int = 0) -> tuple[int, int]:
        """Where the image begins in `Level.rgb`, and its camera in `Level.directions`."""
        layout = self.layouts[level]
        return layout.rgb_begin[image_id], layout.directions_begin[table_of(self.records[image_id])]

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
        """bool [H, W]: false where the lens does not reach the pixel, regardless of masks.

        It is recognised by the direction that replaces a missing one; a masked pixel that looks exactly along the axis
        counts as such.
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
        """World rays of the whole image, row by row, without image slots; of a view unless a file has its rays."""
        image, directions = self.records[image_id], self.directions_cam(image_id, level)
        if image.rays_path is not None:
            return rays_from_directions(directions, image.world_from_cam, self.offsets_m(image_id, level))
        shrink = PYRAMID[level] if level < self.num_levels else 1
        camera = covered(self.cameras[image.camera_key], self._downsample * shrink)
        return rays_of_view(camera, directions, image.world_from_cam)

    def offsets_m(self, image_id: str, level: int = 0) -> np.ndarray | None:
        """float32 [H, W, 3], origins of rays from the centre, in camera axes; None if all begin at the centre."""
        offsets = self._levels[level].offsets_m
        return None if offsets is None else self._view(offsets, self.first_pixels(image_id, level)[1], image_id, level)

    def _view(self, flat: np.ndarray, begin: int, image_id: str, level: int) -> np.ndarray:
        height, width = self.size(image_id, level)
        return flat[begin : begin + height * width].reshape(height, width, *flat.shape[1:])


# --- is the existing store still valid? -----------------------------------------------------------------------------


def _content_hash(scene: Scene, downsample: int) -> str:
    """A hash of everything the files are made from: photographs (by id), cameras, masks, depth, but not poses."""
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


# --- making it ------------------------------------------------------------------------------------------------------


Reduction = tuple[int, Layout]
"""A level of the pyramid, and how many pixels of a photograph become one of its pixels, per side."""


def _reductions(downsample: int, layouts: list[Layout]) -> list[Reduction]:
    return [(downsample * times, level) for times, level in zip(PYRAMID, layouts, strict=False)]


def _build(
    folder: Path, scene: Scene, levels: list[Reduction], content_hash: str, progress: bool, threads: int
) -> None:
    with replaced(folder / "manifest.json", (*_FILES, *STAGE_FILES)) as parts:
        skipped = _fill(parts, scene, levels, progress, threads)
    for name, why in skipped:
        log.warning("The image %s is skipped: %s.", name, why)
    write_manifest(folder / "manifest.json", content_hash, skipped, _FILES)


def _fill(parts: Parts, scene: Scene, levels: list[Reduction], progress: bool, threads: int) -> list[tuple[str, str]]:
    tables = list(tables_of(scene.cameras, scene.images))
    with_offsets = any(path is not None and has_origins(path) for _, _, path in tables)
    for _, level in levels:
        parts.create(f"{level.name}.directions", level.num_directions * 12)
        if with_offsets:
            parts.create(f"{level.name}.offsets", level.num_directions * 12)  # zeros: in the centre
    unseen: dict[tuple[str, str], np.ndarray] = {}
    with bars(progress) as progress_bars:
        tasks = [partial(_store_directions, parts, table, levels) for table in tables]
        for found in in_parallel(tasks, threads, progress_bars, "Cameras"):
            unseen.update(found)
        any_invalid = bool(unseen) or any(image.mask_paths or image.alpha == "mask" for image in scene.images)
        for _, level in levels:
            parts.create(f"{level.name}.rgb", level.num_pixels * 3)
            if any_invalid:
                parts.create(f"{level.name}.valid", level.num_pixels)
        tasks = [partial(_store_image, parts, image, levels, unseen, any_invalid) for image in scene.images]
        problems = in_parallel(tasks, threads, progress_bars, "Photographs")
        _fill_depth(parts, scene, levels, threads, progress_bars)
        return [(image.name, why) for image, why in zip(scene.images, problems, strict=True) if why is not None]


def _fill_depth(parts: Parts, scene: Scene, levels: list[Reduction], threads: int, progress_bars: Progress) -> None:
    """Raises UserError if images name depth maps and none can be used; a single bad one is only logged."""
    images = [image for image in scene.images if image.depth_path is not None]
    if not images:
        return
    for _, level in levels:
        parts.create(f"{level.name}.depth_z", level.num_pixels * 4)  # zeros: unknown
    tasks = [partial(_store_depth, parts, image, scene.cameras[image.camera_key], levels) for image in images]
    problems = [problem for problem in in_parallel(tasks, threads, progress_bars, "Depth maps") if problem is not None]
    if len(problems) == len(images):
        raise UserError(
            f"dataset.use_depth is true, but no depth map of {scene.root} can be used: {problems[0]}. "
            "Mend them or set dataset.use_depth=false."
        )
    for problem in problems:
        log.warning("An image is learned without its depth: %s.", problem)


def _store_directions(parts: Parts, table: Table, levels: list[Reduction]) -> dict[tuple[str, str], np.ndarray]:
    """Writes one table at every level; returns where (bool [H, W] per key and level) the lens does not reach."""
    key, camera, path = table
    unseen = {}
    for factor, level in levels:
        height, width = camera.height // factor, camera.width // factor
        if path is None:
            directions = camera_directions(covered(camera, factor), width, height)
        else:
            rays = reduced_rays(path, camera.width, camera.height, factor)
            directions = rays[..., :3]
            if rays.shape[2] == 6:
                parts.write(f"{level.name}.offsets", rays[..., 3:], level.directions_begin[key] * 12)
        missing = np.isnan(directions).any(axis=2)
        if missing.any():
            directions[missing] = OPTICAL_AXIS
            unseen[key, level.name] = missing
        parts.write(f"{level.name}.directions", directions, level.directions_begin[key] * 12)
    return unseen


def _store_image(
    parts: Parts,
    image: ImageRecord,
    levels: list[Reduction],
    unseen: dict[tuple[str, str], np.ndarray],
    any_invalid: bool,
) -> str | None:
    """Writes one photograph at every level; returns the reason if it cannot be used."""
    factor, largest = levels[0]
    height, width = largest.sizes[image.camera_key]
    is_large = height * width * factor**2 > _LARGE_PIXELS
    with _ONE_LARGE_AT_A_TIME if is_large else nullcontext():
        return _write_image(parts, image, levels, unseen, any_invalid)


def _write_image(
    parts: Parts,
    image: ImageRecord,
    levels: list[Reduction],
    unseen: dict[tuple[str, str], np.ndarray],
    any_invalid: bool,
) -> str | None:
    try:
        photograph, opaque = read_picture(image.path, image.orientation, image.alpha)
        mask = read_masks(image.mask_paths, photograph.size, image.orientation)
    except UserError:  # no choice for transparent pixels concerns all images, so none is skipped for it
        raise
    except DECODE_ERRORS as error:
        return f"{image.path} or its mask cannot be decoded ({error})"
    for factor, level in levels:
        begin = level.rgb_begin[image.id]
        parts.write(f"{level.name}.rgb", area_mean(photograph, factor), begin * 3)
        if any_invalid:
            valid = np.ones(level.sizes[image.camera_key], bool)
            for kept in (mask, opaque):
                if kept is not None:
                    valid &= whole_blocks(kept, factor)
            if (table_of(image), level.name) in unseen:
                valid &= ~unseen[table_of(image), level.name]
            parts.write(f"{level.name}.valid", valid.astype(np.uint8), begin)
    return None


def _store_depth(parts: Parts, image: ImageRecord, camera: Camera, levels: list[Reduction]) -> str | None:
    """Writes one depth map at every level; returns the reason if it cannot be used."""
    assert image.depth_path is not None
    try:
        depth_z_m = read_depth_z_m(
            image.depth_path, (camera.width, camera.height), image.orientation, image.depth_unit_m
        )
    except DEPTH_ERRORS as error:
        return f"{image.depth_path} cannot be read as depth ({error})"
    for factor, level in levels:
        parts.write(f"{level.name}.depth_z", reduced_depth(depth_z_m, factor), level.rgb_begin[image.id] * 4)
    return None
