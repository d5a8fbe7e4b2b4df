"""Every block of a plan as a separate COLMAP scene, for any splat trainer; `blocknerf merge` joins the results.

FOLDER/plan.json   the plan         FOLDER/<id>/block.json        bounds, borders, overlap
                                    FOLDER/<id>/images, masks     photographs under their names
                                    FOLDER/<id>/sparse/0          cameras, poses, points with tracks, binary
"""

import filecmp
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Int
from PIL import Image

from blocknerf.blocks.plan import BlockSpec, Layout, Plan, read_plan, write_plan
from blocknerf.core import disk
from blocknerf.core.errors import UserError
from blocknerf.core.files import copy_file, is_empty, write_atomically, write_json, write_picture
from blocknerf.core.logging import log
from blocknerf.core.names import owned
from blocknerf.export.voronoi_cells import VoronoiCells
from blocknerf.scene.colmap_writer import ModelImage, ModelPoints, write_colmap
from blocknerf.scene.originals import Originals
from blocknerf.scene.photographs import opened_picture, read_masks, read_rgb
from blocknerf.scene.rays import pixels_of
from blocknerf.scene.scene import ImageRecord, Scene

BLOCK_VERSION = 1
_PINHOLE = ("PINHOLE", "SIMPLE_PINHOLE")


@dataclass(frozen=True, slots=True)
class BlockScene:
    """Counts for a written block: `points` in all, `points_inside` of them in its territory."""

    id: str
    folder: Path
    images: int
    points: int
    points_inside: int


def write_block_scenes(
    folder: Path, scene: Scene, plan: Plan, photographs: Literal["copy", "link"] = "copy", with_test: bool = False
) -> Iterator[BlockScene]:
    """Writes block after block; test images only with `with_test`.

    Raises UserError if the folder has other files than blocks of this scene, or a file in place of a photograph that is
    neither a copy of it nor a link to it.
    """
    _require_ours(folder, plan)
    lenses = {camera.model for camera in scene.cameras.values()} - set(_PINHOLE)
    if lenses:
        log.warning(
            "Cameras are %s: for trainers that support only pinhole cameras, undistort each block first (`colmap "
            "image_undistorter --image_path BLOCK/images --input_path BLOCK/sparse/0 --output_path NEW`).",
            ", ".join(sorted(lenses)),
        )
    originals = Originals.of(scene)
    voronoi_cells = VoronoiCells.of(plan)
    owners = voronoi_cells.owners(scene.points_world)
    write_plan(folder / "plan.json", plan)
    seen = {block.id: _seen_points(scene, _images_of(scene, block, with_test)) for block in plan.blocks}
    for number, block_id in enumerate(voronoi_cells.ids):
        block, is_inside = plan.block(block_id), owners == number
        images = _images_of(scene, block, with_test)
        rows = np.flatnonzero(seen[block_id] | is_inside)
        place = owned(folder, f"{block_id}/block.json").parent
        model = owned(folder, f"{block_id}/sparse/0/images.bin").parent
        _write_photographs(folder, block_id, images, photographs, originals)
        _write_model(model, scene, images, rows)
        figures = _figures(voronoi_cells, number, plan, seen) | {
            "points": len(rows),
            "own_points": int(is_inside.sum()),
        }
        write_json(place / "block.json", _description(block, plan, voronoi_cells, images, scene) | figures)
        yield BlockScene(block_id, place, len(images), len(rows), int(is_inside.sum()))


def _require_ours(folder: Path, plan: Plan) -> None:
    if not folder.exists() or (folder.is_dir() and is_empty(folder)):
        return
    if not (folder / "plan.json").is_file() or read_plan(folder / "plan.json").scene_hash != plan.scene_hash:
        raise UserError(f"{folder} holds something else than blocks of this scene. Give a new folder.")


def _images_of(scene: Scene, block: BlockSpec, with_test: bool) -> list[ImageRecord]:
    wanted = set(block.train_images) | (set(block.test_images) if with_test else set())
    return [image for image in scene.images if image.id in wanted]


def _seen_points(scene: Scene, images: list[ImageRecord]) -> Bool[np.ndarray, " points"]:
    seen = np.zeros(len(scene.points_world), bool)
    for image in images:
        seen[image.point_rows] = True
    return seen


def _write_model(folder: Path, scene: Scene, images: list[ImageRecord], rows: Int[np.ndarray, " points"]) -> None:
    """Observations are projections of points: readers keep which points an image sees, not its keypoints."""
    number_of = np.full(len(scene.points_world), -1)
    number_of[rows] = np.arange(len(rows))
    points = scene.points_world[rows].astype(np.float32)
    tracks: list[list[tuple[int, int]]] = [[] for _ in rows]
    listed = []
    for i, image in enumerate(images):
        pixels_xy = _projections(scene, image)
        inside = np.isfinite(pixels_xy).all(axis=1)
        numbers = number_of[image.point_rows[inside]]
        observed = [(x, y, n) for (x, y), n in zip(pixels_xy[inside].tolist(), numbers.tolist(), strict=True)]
        for place, (_, _, n) in enumerate(observed):
            tracks[n].append((i, place))
        listed.append(ModelImage(image.name, image.camera_key, image.world_from_cam, observed))
    used = {image.camera_key for image in images}
    cameras = {key: camera for key, camera in scene.cameras.items() if key in used}
    write_colmap(folder, cameras, listed, ModelPoints(points, scene.points_rgb[rows], tracks), binary=True)


def _projections(scene: Scene, image: ImageRecord) -> np.ndarray:
    """[k, 2] pixels of the points that the image sees; NaN where one does not fall into it."""
    camera = scene.cameras[image.camera_key]
    points_cam = (scene.points_world[image.point_rows] - image.world_from_cam[:, 3]) @ image.world_from_cam[:, :3]
    pixels_xy = pixels_of(camera, points_cam).reshape(-1, 2)
    with np.errstate(invalid="ignore"):
        outside = np.any((pixels_xy < 0) | (pixels_xy > (camera.width, camera.height)), axis=1)
    return np.where(outside[:, None], np.nan, pixels_xy)


def _write_photographs(
    folder: Path, block_id: str, images: list[ImageRecord], how: Literal["copy", "link"], originals: Originals
) -> None:
    """The photographs, and one mask for each that has any (0: ignore this pixel)."""
    for image in images:
        target = owned(folder, f"{block_id}/images/{image.name}")
        if image.orientation.is_turned:  # not every trainer applies EXIF orientation
            _write_upright(image, originals.require_apart(target))
        else:
            _put(image.path, target, how, originals)
        if image.mask_paths:
            with opened_picture(image.path) as photograph:
                size = image.orientation.picture_size(photograph.size)
            kept = read_masks(image.mask_paths, size, image.orientation)
            pixels = Image.fromarray(np.asarray(kept).astype(np.uint8) * 255)
            mask = originals.require_apart(owned(folder, f"{block_id}/masks/{image.name}.png"))
            write_picture(mask, pixels, "PNG")


def _put(source: Path, target: Path, how: Literal["copy", "link"], originals: Originals) -> None:
    """A correct file is kept; a link to a photograph, or a copy of this one, is replaced."""
    if target.is_symlink():
        if how == "link" and os.readlink(target) == str(source.resolve()):
            return
        _require_ours_at(target, not target.exists() or originals.holds(target))
        disk.unlink(target)
    elif target.exists():
        originals.require_apart(target)
        if how == "copy" and target.is_file() and target.stat().st_size == source.stat().st_size:
            return
        _require_ours_at(target, target.is_file() and filecmp.cmp(source, target, shallow=False))
    if how == "copy":
        copy_file(source, target)
    else:
        write_atomically(target, lambda temporary: disk.symlink(source.resolve(), temporary))


def _require_ours_at(target: Path, is_ours: bool) -> None:
    if not is_ours:
        raise UserError(
            f"{target} is neither a copy of the scene's photograph nor a link to it, so it is left as it is. Move it "
            "away, or give a new folder."
        )


def _write_upright(image: ImageRecord, target: Path) -> None:
    """The picture that the camera belongs to, without EXIF."""
    picture = read_rgb(image.path, image.orientation)
    kind = Image.registered_extensions().get(target.suffix.lower(), "PNG")
    write_picture(target, picture, kind, **({"quality": 97, "subsampling": 0} if kind == "JPEG" else {}))


def _description(
    block: BlockSpec, plan: Plan, voronoi_cells: VoronoiCells, images: list[ImageRecord], scene: Scene
) -> dict[str, Any]:
    center, test = np.array(block.center_world), set(block.test_images)
    return {
        "version": BLOCK_VERSION,
        "id": block.id,
        "scene_hash": plan.scene_hash,
        "center_world": block.center_world,
        "radius_m": block.radius_m,
        "bounds_world": [(center - block.radius_m).tolist(), (center + block.radius_m).tolist()],
        "ground": {"origin_world": voronoi_cells.layout.origin_world, "axes_world": voronoi_cells.layout.axes_world},
        "cells_xy": block.cells_xy,
        "shared_xy": block.shared_xy,
        "cell_half_edge_m": voronoi_cells.layout.cell_half_edge_m,
        "cell_reach_m": voronoi_cells.layout.cell_reach_m,
        "overlap_m": _overlap_m(block, voronoi_cells.layout),
        "images": len(images),
        "test_images": [image.name for image in images if image.id in test],
        "drives": sorted({image.drive for image in images}),
    }


def _overlap_m(block: BlockSpec, layout: Layout) -> float:
    """Maximum distance that the block reaches beyond its cells."""
    beyond_m = layout.cell_reach_m - layout.cell_half_edge_m
    if not block.shared_xy:
        return beyond_m
    return beyond_m + float(layout.cells(block.cells_xy).nearest(np.array(block.shared_xy))[1].max())


def _figures(
    voronoi_cells: VoronoiCells, number: int, plan: Plan, seen: dict[str, Bool[np.ndarray, " points"]]
) -> dict[str, Any]:
    """For every neighbour: the border half-way to it, and what the two share."""
    block = plan.block(voronoi_cells.ids[number])
    borders = {}
    for other, middle, normal in voronoi_cells.borders(number):
        name = voronoi_cells.ids[other]
        if name not in block.neighbours:
            continue
        borders[name] = {
            "point_world": middle.tolist(),
            "normal_world": normal.tolist(),
            "shared_images": len(set(block.train_images) & set(plan.block(name).train_images)),
            "shared_points": int((seen[block.id] & seen[name]).sum()),
        }
    return {"borders": borders}
