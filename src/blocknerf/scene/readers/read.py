"""`read_scene`: whatever lies in the folder, a `Scene` comes out."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from blocknerf.core.config import DatasetConfig
from blocknerf.core.errors import UserError
from blocknerf.core.logging import log
from blocknerf.scene.readers.candidates import make_scene
from blocknerf.scene.readers.colmap import read_colmap
from blocknerf.scene.readers.colmap_files import find_model
from blocknerf.scene.readers.sidecar import read_sidecar
from blocknerf.scene.readers.transforms import read_transforms
from blocknerf.scene.scene import Scene


def read_scene(data_root: Path, config: DatasetConfig) -> Scene:
    """Reads the capture in `data_root`: a COLMAP model or transforms.json, with our sidecar file where there is one.

    Images that cannot be used, or stand outside of `scene_bounds`, are listed in `Scene.skipped` and logged. Raises
    UserError when there is no capture, a file of it is damaged, two images share a name, fewer than two images are
    usable, or depth is wanted and none has any.
    """
    data_root = Path(data_root)
    if not data_root.is_dir():
        raise UserError(f"There is no folder {data_root}. Give the folder of a capture as the data root.")
    model_folder = find_model(data_root) if config.type in ("auto", "colmap") else None
    transforms = data_root / "transforms.json"
    sidecar = read_sidecar(data_root)
    if model_folder is not None:
        capture = read_colmap(data_root, model_folder)
    elif config.type in ("auto", "nerfstudio") and transforms.is_file():
        capture = read_transforms(data_root, transforms)
    else:
        raise UserError(f"{data_root} holds {_WANTED[config.type]}. Point --data-root at the folder of a capture.")
    scene = make_scene(data_root, capture, sidecar, config.use_masks, config.use_depth)
    return _thinned(_within(scene, config.scene_bounds), config.max_images)


def _within(scene: Scene, bounds: tuple[float, float, float, float, float, float] | None) -> Scene:
    """The scene without images whose camera stands outside of `bounds` (see dataset.scene_bounds)."""
    if bounds is None:
        return scene
    centers = scene.centers_world
    inside = np.all((centers >= bounds[:3]) & (centers <= bounds[3:]), axis=1)
    if inside.sum() < 2:
        low, high = centers.min(0), centers.max(0)
        raise UserError(
            f"dataset.scene_bounds leaves {inside.sum()} of {len(inside)} images, and two are needed. Cameras stand "
            f"between ({low[0]:.1f}, {low[1]:.1f}, {low[2]:.1f}) and ({high[0]:.1f}, {high[1]:.1f}, {high[2]:.1f}) m."
        )
    if not inside.all():
        log.info("%d of %d images are left out by dataset.scene_bounds.", (~inside).sum(), len(inside))
    kept = tuple(image for image, keep in zip(scene.images, inside, strict=True) if keep)
    outside = [image.name for image, keep in zip(scene.images, inside, strict=True) if not keep]
    skipped = (*scene.skipped, *((name, "its camera stands outside of dataset.scene_bounds") for name in outside))
    return replace(scene, images=kept, skipped=skipped)


def _thinned(scene: Scene, most: int | None) -> Scene:
    """The scene with at most so many of its images, spread evenly."""
    if most is None or len(scene.images) <= most:
        return scene
    rows = np.linspace(0, len(scene.images) - 1, most).round().astype(int)
    return replace(scene, images=tuple(scene.images[row] for row in rows))


_WANTED = {
    "auto": "neither a COLMAP model (sparse/0/cameras.bin) nor a transforms.json",
    "colmap": "no COLMAP model (looked for cameras.bin or .txt in sparse/0, sparse, colmap/sparse/0 and there itself)",
    "nerfstudio": "no transforms.json",
}
