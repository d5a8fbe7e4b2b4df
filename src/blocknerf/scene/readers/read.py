"""`read_scene`: from a folder of any known format to a `Scene`."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from blocknerf.core.config.dataset import DatasetConfig
from blocknerf.core.errors import UserError
from blocknerf.core.logging import log
from blocknerf.scene.readers.alpha import with_alpha
from blocknerf.scene.readers.blender import finds_blender, read_blender
from blocknerf.scene.readers.bundler import finds_bundler, read_bundler
from blocknerf.scene.readers.candidates import Capture, make_scene
from blocknerf.scene.readers.choice import Option, choose
from blocknerf.scene.readers.colmap import finds_colmap, read_colmap
from blocknerf.scene.readers.colmap_files import find_models
from blocknerf.scene.readers.kitti import finds_kitti, read_kitti
from blocknerf.scene.readers.llff import finds_llff, read_llff
from blocknerf.scene.readers.mega_nerf import finds_mega_nerf, read_mega_nerf
from blocknerf.scene.readers.nuscenes import finds_nuscenes, read_nuscenes
from blocknerf.scene.readers.sidecar import read_sidecar
from blocknerf.scene.readers.transforms import finds_transforms, read_transforms
from blocknerf.scene.readers.waymo import finds_waymo, read_waymo
from blocknerf.scene.scene import Offset, Scene


@dataclass(frozen=True, slots=True)
class Reader:
    """A format: its name in `dataset.type`, a test whether a folder holds it, and its reader."""

    type: str
    finds: Callable[[Path], bool]
    read: Callable[[Path], Capture]
    looks_for: str
    """What `finds` looks for."""


READERS = (
    Reader(
        "colmap",
        finds_colmap,
        read_colmap,
        "COLMAP model (cameras.bin or .txt in sparse, colmap/sparse or a folder in these)",
    ),
    Reader("nerfstudio", finds_transforms, read_transforms, "transforms.json"),
    Reader("blender", finds_blender, read_blender, "transforms_train.json of NeRF's synthetic scenes"),
    Reader("mega_nerf", finds_mega_nerf, read_mega_nerf, "coordinates.pt of Mega-NeRF"),
    Reader("waymo", finds_waymo, read_waymo, "*.tfrecord of the Waymo Block-NeRF data set"),
    Reader("kitti", finds_kitti, read_kitti, "calib.txt beside image_0 to image_3 of KITTI odometry"),
    Reader("nuscenes", finds_nuscenes, read_nuscenes, "v1.0-*/sample_data.json of nuScenes"),
    Reader("llff", finds_llff, read_llff, "poses_bounds.npy of LLFF"),
    Reader("bundler", finds_bundler, read_bundler, "bundle.out of Bundler"),
)
"""Of equally good captures, `auto` takes the first in this order (see `choice.py`)."""


def read_scene(data_root: Path, config: DatasetConfig, known_offset_m: Offset | None = None) -> Scene:
    """Reads the capture in `data_root` with the fitting reader of READERS, and its sidecar file if there is one.

    `known_offset_m` is that of an earlier plan (see scene/world_offset.py). Images that cannot be used, or are outside
    of `scene_bounds`, are listed in `Scene.skipped` and logged. Raises UserError if there is no capture, a file of it
    is damaged, two images share a name, fewer than two images are usable, depth is requested and none has any, or
    pictures are transparent and nothing is chosen for that.
    """
    data_root = Path(data_root)
    if not data_root.is_dir():
        raise UserError(f"There is no folder {data_root}. Give the folder of a capture as the data root.")
    sidecar = read_sidecar(data_root)
    capture = choose(data_root, _options(data_root, config))
    scene = make_scene(data_root, capture, sidecar, config.use_masks, config.use_depth, known_offset_m)
    scene = replace(scene, images=with_alpha(scene.images, config.ground))
    return _thinned(_within(scene, config.scene_bounds), config.max_images)


def _options(data_root: Path, config: DatasetConfig) -> list[Option]:
    """All readable captures in the folder that were asked for."""
    if config.colmap_model is not None:
        return [_colmap_option(data_root, config.colmap_model)]
    wanted = [reader for reader in READERS if config.type in ("auto", reader.type)]
    options = []
    for reader in wanted:
        if reader.type == "colmap" and len(models := find_models(data_root)) > 1:
            options += [_colmap_option(data_root, model) for model in models]
        elif reader.finds(data_root):
            options.append(Option(reader.type, f"dataset.type={reader.type}", partial(reader.read, data_root)))
    if not options:
        missing = ", ".join(f"no {reader.looks_for}" for reader in wanted)
        raise UserError(f"{data_root} holds {missing}. Point --data-root at the folder of a capture.")
    return options


def _colmap_option(data_root: Path, model: str) -> Option:
    return Option(model, f"dataset.colmap_model={model}", partial(read_colmap, data_root, model))


def _within(scene: Scene, bounds: tuple[float, float, float, float, float, float] | None) -> Scene:
    """The scene without images whose camera is outside of `bounds` (see dataset.scene_bounds)."""
    if bounds is None:
        return scene
    centers = scene.centers_world + scene.world_offset_m
    inside = np.all((centers >= bounds[:3]) & (centers <= bounds[3:]), axis=1)
    if inside.sum() < 2:
        low, high = centers.min(0), centers.max(0)
        raise UserError(
            f"dataset.scene_bounds leaves {inside.sum()} of {len(inside)} images, and two are needed. Cameras stand "
            f"between ({low[0]:.1f}, {low[1]:.1f}, {low[2]:.1f}) and ({high[0]:.1f}, {high[1]:.1f}, {high[2]:.1f}) m."
        )
    if not inside.all():
        log.info(
            "%d of %d images are skipped, because they are outside of dataset.scene_bounds.",
            (~inside).sum(),
            len(inside),
        )
    kept = tuple(image for image, keep in zip(scene.images, inside, strict=True) if keep)
    outside = [image.name for image, keep in zip(scene.images, inside, strict=True) if not keep]
    skipped = (*scene.skipped, *((name, "its camera stands outside of dataset.scene_bounds") for name in outside))
    return replace(scene, images=kept, skipped=skipped)


def _thinned(scene: Scene, most: int | None) -> Scene:
    """The scene with at most `most` of its images, spread evenly."""
    if most is None or len(scene.images) <= most:
        return scene
    rows = np.linspace(0, len(scene.images) - 1, most).round().astype(int)
    return replace(scene, images=tuple(scene.images[row] for row in rows))
