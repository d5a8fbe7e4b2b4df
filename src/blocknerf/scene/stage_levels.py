"""Picture sizes of training stages: resampled from the largest one in the image store, and stored beside it.

Flat files like those of the pyramid, called `side_P.KIND` for pictures of at most P pixels on their longer side, with a
separate manifest `side_P.json`, so that the pyramid does not change. A pixel has the mean colour and the median depth
of the pixels that it covers, is hidden if it covers a hidden one, and its ray goes through its centre.
"""

from functools import partial

import numpy as np

from blocknerf.core.logging import log
from blocknerf.core.progress import bars
from blocknerf.scene.levels import Layout, Table, bounded, layout, table_of, tables_of
from blocknerf.scene.rays import OPTICAL_AXIS, camera_directions
from blocknerf.scene.resampling import resampled_depth, resampled_rays, resampled_rgb, resampled_valid
from blocknerf.scene.scene import ImageRecord
from blocknerf.scene.store import ImageStore
from blocknerf.scene.store_files import KINDS, Parts, alone, in_parallel, replaced, why_stale, write_manifest


def stage_level(store: ImageStore, longer_side_px: int | None, progress: bool = False, threads: int = 2) -> int:
    """The number of the store's level in which no picture's longer side exceeds this many pixels; None: the largest
    level.

    Smaller pictures keep their size. A missing level is made by `threads` threads. Raises UserError if the disk is
    full.
    """
    sizes = bounded(store.layouts[0].sizes, longer_side_px)
    known = [number for number, existing in enumerate(store.layouts) if existing.sizes == sizes]
    if known:
        return known[0]
    images = tuple(store.records.values())
    wanted = layout(f"side_{longer_side_px}", store.cameras, images, sizes)
    manifest = store.folder / f"{wanted.name}.json"
    with alone(store.folder):
        stale = why_stale(manifest, store.content_hash, f"image store of {longer_side_px} pixels a side")
        if stale is not None:
            log.info("%s; resampling %d images into %s.", stale, len(images), store.folder)
            files = [f"{wanted.name}.{kind}" for kind in KINDS]
            with replaced(manifest, files) as parts:
                _fill(parts, store, wanted, progress, threads)
            write_manifest(manifest, store.content_hash, [], files)
    return store.add_level(wanted)


def _fill(parts: Parts, store: ImageStore, wanted: Layout, progress: bool, threads: int) -> None:
    images, largest = list(store.records.values()), store.level()
    parts.create(f"{wanted.name}.directions", wanted.num_directions * 12)
    if largest.offsets_m is not None:
        parts.create(f"{wanted.name}.offsets", wanted.num_directions * 12)
    with bars(progress) as progress_bars:
        tables = list(tables_of(store.cameras, images))
        tasks = [partial(_resample_table, parts, table, store, wanted) for table in tables]
        missing = in_parallel(tasks, threads, progress_bars, "Cameras")
        unseen = {key: pixels for (key, _, _), pixels in zip(tables, missing, strict=True) if pixels.any()}
        parts.create(f"{wanted.name}.rgb", wanted.num_pixels * 3)
        if largest.valid is not None or unseen:
            parts.create(f"{wanted.name}.valid", wanted.num_pixels)
        if largest.depth_z_m is not None:
            parts.create(f"{wanted.name}.depth_z", wanted.num_pixels * 4)
        tasks = [partial(_resample_image, parts, image, store, wanted, unseen) for image in images]
        for _ in in_parallel(tasks, threads, progress_bars, "Photographs"):
            pass


def _resample_table(parts: Parts, table: Table, store: ImageStore, wanted: Layout) -> np.ndarray:
    """Writes one table; returns where (bool [H, W]) the lens does not reach."""
    key, camera, path = table
    begin = wanted.directions_begin[key] * 12
    if path is None:
        directions = camera_directions(camera, *reversed(wanted.sizes[key]))
    else:
        size, offsets_m = wanted.sizes[store.records[key].camera_key], store.offsets_m(key)
        directions = resampled_rays(store.directions_cam(key), *size)
        directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
        if offsets_m is not None:
            parts.write(f"{wanted.name}.offsets", resampled_rays(offsets_m, *size), begin)
    missing = np.isnan(directions).any(axis=2)
    directions[missing] = OPTICAL_AXIS
    parts.write(f"{wanted.name}.directions", directions, begin)
    return np.asarray(missing)


def _resample_image(
    parts: Parts, image: ImageRecord, store: ImageStore, wanted: Layout, unseen: dict[str, np.ndarray]
) -> None:
    begin, size, largest = wanted.rgb_begin[image.id], wanted.sizes[image.camera_key], store.level()
    parts.write(f"{wanted.name}.rgb", resampled_rgb(store.rgb(image.id), *size), begin * 3)
    if largest.valid is not None or unseen:
        valid = resampled_valid(store.valid(image.id), *size)
        if table_of(image) in unseen:
            valid &= ~unseen[table_of(image)]
        parts.write(f"{wanted.name}.valid", valid.astype(np.uint8), begin)
    depth_z_m = store.depth_z_m(image.id)
    if depth_z_m is not None:
        parts.write(f"{wanted.name}.depth_z", resampled_depth(depth_z_m, *size), begin * 4)
