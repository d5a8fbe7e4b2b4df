"""Cameras as the blocks of a city refined them, for other programs: a COLMAP model or transforms.json."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from blocknerf.city.city import City
from blocknerf.city.selection import distances_to, inverse_distance_weights
from blocknerf.core.camera import Camera
from blocknerf.core.errors import UserError
from blocknerf.core.files import write_json
from blocknerf.core.logging import log
from blocknerf.geometry import se3
from blocknerf.geometry.se3 import OPENCV_FROM_OPENGL
from blocknerf.models.renderer import BlockRenderer
from blocknerf.scene.colmap_writer import ModelImage, ModelPoints, write_colmap
from blocknerf.scene.scene import ImageRecord, Scene

_TRANSFORMS_KEYS = {
    "SIMPLE_PINHOLE": ("PINHOLE", "f cx cy"),
    "PINHOLE": ("PINHOLE", "fl_x fl_y cx cy"),
    "SIMPLE_RADIAL": ("OPENCV", "f cx cy k1"),
    "RADIAL": ("OPENCV", "f cx cy k1 k2"),
    "OPENCV": ("OPENCV", "fl_x fl_y cx cy k1 k2 p1 p2"),
    "FULL_OPENCV": ("FULL_OPENCV", "fl_x fl_y cx cy k1 k2 p1 p2 k3 k4 k5 k6"),
    "OPENCV_FISHEYE": ("OPENCV_FISHEYE", "fl_x fl_y cx cy k1 k2 k3 k4"),
    "SIMPLE_RADIAL_FISHEYE": ("OPENCV_FISHEYE", "f cx cy k1"),
    "RADIAL_FISHEYE": ("OPENCV_FISHEYE", "f cx cy k1 k2"),
}
"""COLMAP's camera models that transforms.json can hold: the name in that file, and the names of their parameters."""


def refined_poses(city: City, scene: Scene, only: str | None = None) -> dict[str, np.ndarray]:
    """world_from_cam [3, 4] of every image that some block refined, by image id; only those of the block `only`, if
    given.

    If several blocks refined an image, the mean of their poses, weighted by inverse distance of their anchors to the
    camera: along a drive, poses then change from one block's to the next without a step. Raises UserError if no block,
    or not the requested one, has refined any.
    """
    if only is not None and only not in city.ids:
        raise UserError(f"The city has no trained block {only!r}. It has: {', '.join(city.ids)}.")
    refinements: dict[str, list[_RefinedPose]] = {}
    for block in city.blocks:
        if only in (None, block.id):
            for image_id, motion in _motions(city.model(block.id), scene).items():
                refinements.setdefault(image_id, []).append(_RefinedPose(torch.tensor(block.anchor_world), motion))
    if not refinements:
        raise UserError(
            f"{'No block' if only is None else f'Block {only}'} has refined a pose: it was trained without it. "
            "Train with training.use_pose_refinement=true."
        )
    images = [image for image in scene.images if image.id in refinements]
    log.info("%d of %d images have refined poses.", len(images), len(scene.images))
    return {image.id: _merged(image, refinements[image.id], city.manifest.blend_power) for image in images}


def write_cameras(
    folder: Path, scene: Scene, poses: dict[str, np.ndarray], kind: Literal["colmap", "transforms"]
) -> Path:
    """The images of `poses` with these poses: `sparse/0` of a COLMAP model, or transforms.json; returns its path.

    Points of the capture are included without observations, which belonged to the captured poses. Raises UserError for
    a camera that transforms.json cannot hold.
    """
    images = [image for image in scene.images if image.id in poses]
    if kind == "transforms":
        path = folder / "transforms.json"
        write_json(path, {"frames": [_frame(folder, scene, image, poses[image.id]) for image in images]})
        return path
    listed = [ModelImage(image.name, image.camera_key, poses[image.id]) for image in images]
    model = folder / "sparse" / "0"
    write_colmap(model, scene.cameras, listed, ModelPoints(scene.points_world, scene.points_rgb))
    return model


def files_of_cameras(kind: Literal["colmap", "transforms"]) -> list[str]:
    """What `write_cameras` writes or removes, and the offset beside it."""
    model = [f"sparse/0/{part}.{ending}" for part in ("cameras", "images", "points3D") for ending in ("txt", "bin")]
    return [*(["transforms.json"] if kind == "transforms" else model), "world_offset.json"]


@dataclass(frozen=True, slots=True)
class _RefinedPose:
    """One block's result for an image: refined_from_captured, and the block's anchor."""

    anchor_world: torch.Tensor
    motion: torch.Tensor


def _motions(block: BlockRenderer, scene: Scene) -> dict[str, torch.Tensor]:
    motions = {image.id: block.pose_motion(image.id, image.drive, image.segment) for image in scene.images}
    return {image_id: motion for image_id, motion in motions.items() if motion is not None}


def _merged(image: ImageRecord, refinements: list[_RefinedPose], power: float) -> np.ndarray:
    """The mean is taken of twists at the camera, where they are small and none turns about a far point."""
    captured = torch.from_numpy(image.world_from_cam)
    refined = torch.stack([se3.compose(one.motion, captured) for one in refinements])
    distances = distances_to(captured[:, 3], torch.stack([one.anchor_world for one in refinements]))
    weights = inverse_distance_weights(distances, power)
    twists = se3.log(se3.compose(se3.inverse(captured).expand_as(refined), refined))
    return se3.compose(captured, se3.exp(weights @ twists)).numpy()


def _frame(folder: Path, scene: Scene, image: ImageRecord, world_from_cam: np.ndarray) -> dict[str, Any]:
    """Poses in OpenGL axes; photographs relative to the folder."""
    matrix = np.concatenate([world_from_cam * OPENCV_FROM_OPENGL, [[0, 0, 0, 1]]])
    return {
        "file_path": os.path.relpath(image.path, folder).replace(os.sep, "/"),
        **_intrinsics(scene.cameras[image.camera_key], image),
        "transform_matrix": matrix.tolist(),
    }


def _intrinsics(camera: Camera, image: ImageRecord) -> dict[str, Any]:
    if camera.model not in _TRANSFORMS_KEYS:
        raise UserError(
            f"transforms.json cannot hold the camera of {image.name}, a {camera.model}. Export with --format colmap."
        )
    model, keys = _TRANSFORMS_KEYS[camera.model]
    values = dict(zip(keys.split(), camera.params, strict=True))
    if "f" in values:
        values["fl_x"] = values["fl_y"] = values.pop("f")
    return {"camera_model": model, "w": camera.width, "h": camera.height, **values}
