"""Converts a data set of nerfbaselines to a `Scene`, and its cameras to blocknerf's.

What arrives is written down in its documentation: a mapping with `cameras`, `images`, `image_paths`, `points3D_xyz` and
more. Cameras look along +z with y down, pixel centres at half integers, as ours.
"""

import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from blocknerf.core.camera import Camera
from blocknerf.core.errors import UserError
from blocknerf.core.files import write_picture
from blocknerf.scene.readers.candidates import Candidate, Capture, make_scene
from blocknerf.scene.readers.sidecar import Sidecar
from blocknerf.scene.scene import Scene

CAMERA_MODELS = ("pinhole", "opencv", "opencv_fisheye", "full_opencv")
"""By their numbers in `Cameras.camera_models`."""
_COLMAP_MODELS = {
    "pinhole": ("PINHOLE", ()),
    "opencv": ("OPENCV", (0, 1, 2, 3)),
    "opencv_fisheye": ("OPENCV_FISHEYE", (0, 1, 4, 5)),
    "full_opencv": ("FULL_OPENCV", (0, 1, 2, 3, 4, 5, 6, 7)),
}
"""The same model of COLMAP, and which of k1, k2, p1, p2, k3, k4, k5, k6 follow its focal lengths and centre."""

Dataset = Mapping[str, Any]


@runtime_checkable
class Cameras(Protocol):
    """The used fields of nerfbaselines' cameras; for a single camera, arrays lack the first axis."""

    poses: np.ndarray  # [n, 3 or 4, 4], world_from_cam
    intrinsics: np.ndarray  # [n, 4]: fx, fy, cx, cy in pixels
    camera_models: np.ndarray  # [n], numbers of CAMERA_MODELS
    distortion_parameters: np.ndarray  # [n, up to 8], see _COLMAP_MODELS
    image_sizes: np.ndarray  # [n, 2]: width, height


def camera_of(cameras: Cameras) -> tuple[Camera, np.ndarray]:
    """A single camera, and its world_from_cam [3, 4]. Raises UserError for a model that is not known."""
    number = int(cameras.camera_models)
    if not 0 <= number < len(CAMERA_MODELS):
        raise UserError(f"nerfbaselines hands over a camera model {number}; known are 0 to 3: {CAMERA_MODELS}.")
    model, kept = _COLMAP_MODELS[CAMERA_MODELS[number]]
    distortion = np.zeros(8)
    given = np.asarray(cameras.distortion_parameters, np.float64).ravel()[:8]
    distortion[: len(given)] = given
    width, height = (int(side) for side in cameras.image_sizes)
    params = (*(float(value) for value in cameras.intrinsics), *(float(distortion[row]) for row in kept))
    return Camera(model, width, height, params), np.asarray(cameras.poses, np.float64)[:3, :4]


def names_of(dataset: Dataset) -> list[str]:
    """Each image's path below the data set's image folder."""
    root = dataset.get("image_paths_root")
    paths = [str(path) for path in dataset["image_paths"]]
    relative = paths if root is None else [os.path.relpath(path, root) for path in paths]
    return [PurePosixPath(path.replace(os.sep, "/")).as_posix() for path in relative]


def scene_of(dataset: Dataset, folder: Path, use_masks: bool = True) -> Scene:
    """The capture of `dataset`, all of whose images are to be learned from; pixels and masks are written to `folder`.

    They may differ from the files that the data set names: nerfbaselines resizes and undistorts. Images of one folder
    are one drive. Raises UserError for colours that are not 8-bit sRGB, and where the readers do (see make_scene).
    """
    names, cameras = names_of(dataset), dataset["cameras"]
    keys: dict[Camera, str] = {}
    candidates = []
    for index, name in enumerate(names):
        camera, world_from_cam = camera_of(cameras[index])
        path, mask_path = folder / f"{index:06d}.ppm", folder / f"{index:06d}_mask.png"
        write_picture(path, Image.fromarray(image_of(dataset, index)), "PPM")
        mask = mask_of(dataset, index)
        if mask is not None:
            write_picture(mask_path, Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)), "PNG")
        candidates.append(
            Candidate(
                name=name,
                path=path,
                camera=camera,
                camera_key=keys.setdefault(camera, str(len(keys))),
                world_from_cam=world_from_cam,
                mask_path=None if mask is None else mask_path,
                point_rows=_seen(dataset, index),
            )
        )
    capture = Capture(candidates, *_points(dataset), test_names=frozenset())
    scene = make_scene(folder, capture, Sidecar(), use_masks, use_depth=False)
    if any(scene.world_offset_m):  # cameras to render will come in the data set's coordinates, and in float32
        raise UserError(
            "The cameras of this data set stand too far from the origin for 32-bit numbers. Subtract "
            f"{scene.world_offset_m} from all positions."
        )
    return scene


def image_of(dataset: Dataset, index: int) -> UInt8[np.ndarray, "h w 3"]:
    """An image for training; transparent pixels are put on the data set's background, or on black."""
    metadata = dataset.get("metadata") or {}
    image = np.asarray(dataset["images"][index])
    if metadata.get("color_space", "srgb") != "srgb" or image.dtype != np.uint8:
        raise UserError(
            f"The data set of nerfbaselines has {image.dtype} images in the colour space "
            f"{metadata.get('color_space', 'srgb')!r}; blocknerf learns 8-bit sRGB. Choose another data set."
        )
    width, height = (int(side) for side in dataset["cameras"][index].image_sizes)
    image = image[:height, :width]
    if image.ndim == 2:
        image = image[..., None]
    if image.shape[2] < 3:  # grey, perhaps with opacity
        image = np.concatenate([image[..., :1].repeat(3, 2), image[..., 1:]], axis=2)
    if image.shape[2] == 4:
        opacity, behind = image[..., 3:] / 255, metadata.get("background_color")
        composited = image[..., :3] * opacity + (1 - opacity) * (0 if behind is None else np.asarray(behind))
        image = np.round(composited).astype(np.uint8)
    return np.ascontiguousarray(image[..., :3])


def mask_of(dataset: Dataset, index: int) -> np.ndarray | None:
    """bool [H, W]: false where a pixel must be ignored; None if there is none."""
    if dataset.get("masks") is None:
        return None
    width, height = (int(side) for side in dataset["cameras"][index].image_sizes)
    kept = np.asarray(dataset["masks"][index])[:height, :width] > 0
    return None if kept.all() else kept


def is_before_white(dataset: Dataset) -> bool:
    """Whether nothing is white in this data set."""
    behind = (dataset.get("metadata") or {}).get("background_color")
    return behind is not None and bool((np.asarray(behind) == 255).all())


def _points(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """(points_world [P, 3], points_rgb [P, 3])."""
    points, colours = dataset.get("points3D_xyz"), dataset.get("points3D_rgb")
    if points is None:
        return np.zeros((0, 3)), np.zeros((0, 3), np.uint8)
    points = np.asarray(points, np.float64)
    return points, np.full(points.shape, 128, np.uint8) if colours is None else np.asarray(colours, np.uint8)


def _seen(dataset: Dataset, index: int) -> np.ndarray:
    rows = dataset.get("images_points3D_indices")
    if rows is None or dataset.get("points3D_xyz") is None:
        return np.zeros(0, np.int64)
    return np.asarray(rows[index], np.int64)
