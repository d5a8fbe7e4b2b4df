"""Camera paths: the test images' poses, a smooth path along a drive, or a path from a file."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from blocknerf.blocks.plan import Layout
from blocknerf.city.manifest import Manifest
from blocknerf.core.camera import Camera
from blocknerf.core.errors import UserError, quote
from blocknerf.core.logging import log
from blocknerf.core.names import natural_order
from blocknerf.core.reading import read_json
from blocknerf.core.types import Appearance, RayBatch
from blocknerf.export.nerfstudio_frame import TRANSFORMS_NAME, read_transforms, transforms_beside
from blocknerf.geometry.matrices import is_rotation
from blocknerf.geometry.se3 import OPENCV_FROM_OPENGL
from blocknerf.geometry.similarity import Similarity
from blocknerf.geometry.spline import interpolate_poses
from blocknerf.scene.rays import camera_rays, focal_lengths
from blocknerf.scene.scene import FARTHEST_M, ImageRecord, upright_poses_of

FRAMES_PER_KEY = 3
_LARGEST_IN_NERFSTUDIO = 1.5
_LARGE = 8
_FAR = 4
LARGEST_SIDE_PX = 16384
LARGEST_FPS = 1000
LEAST_FOV_DEG = 1e-3


@dataclass(frozen=True, slots=True)
class View:
    """One frame to render: a camera, its pose, and the frame's size in pixels."""

    camera: Camera
    world_from_cam: np.ndarray  # [3, 4] float64, OpenCV axes, metres
    width: int
    height: int
    drive: str | None = None
    appearance: Appearance | None = None
    """Its own look; None: that of the path."""


def view_rays(view: View) -> RayBatch:
    """World rays of the frame, row-major.

    If the frame has other proportions than the camera, the camera's picture is scaled to cover the frame and cropped
    evenly on both sides.
    """
    scale = max(view.width / view.camera.width, view.height / view.camera.height)
    width = max(view.width, round(scale * view.camera.width))
    height = max(view.height, round(scale * view.camera.height))
    rays = camera_rays(view.camera, view.world_from_cam, width, height)
    left, top = (width - view.width) // 2, (height - view.height) // 2
    rows = np.arange(top, top + view.height)[:, None] * width + np.arange(left, left + view.width)
    return rays[torch.from_numpy(rows.ravel())] if (width, height) != (view.width, view.height) else rays


def captured_views(
    images: Sequence[ImageRecord], cameras: dict[str, Camera], downsample: int, size: tuple[int, int] | None = None
) -> list[View]:
    """The poses and cameras of `images`, in their order; frames have `size` (width, height) or 1 / `downsample`."""
    if not images:
        raise UserError(
            "There is no test image whose pose could be rendered. Choose --path interpolate, or keep test images with "
            "dataset.test_every or the scene's own test list."
        )
    size = size or _downsampled(cameras[images[0].camera_key], downsample)
    return [View(cameras[image.camera_key], image.world_from_cam, *size, image.drive) for image in images]


def interpolated_views(
    images: Sequence[ImageRecord],
    cameras: dict[str, Camera],
    count: int,
    downsample: int,
    drive: str | None = None,
    size: tuple[int, int] | None = None,
) -> list[View]:
    """`count` frames along the training images of `drive` (default: the drive with most), seen by one camera of its
    rig.

    Images are taken in the natural order of their names. With many more images than frames, only every nth is a key of
    the curve, so that the camera does not follow each bump of the road. Raises UserError for an unknown drive, or if
    the path would have fewer than two poses.
    """
    if count < 2:
        raise UserError(f"A path needs at least 2 frames, and --frames is {count}.")
    drives = Counter(image.drive for image in images)
    drive = drive or max(sorted(drives), key=drives.__getitem__)
    if drive not in drives:
        raise UserError(f"No training image belongs to a drive {drive!r}. The drives are {', '.join(sorted(drives))}.")
    keys = _one_camera([image for image in images if image.drive == drive])
    if len(keys) < 2:
        raise UserError(
            f"The drive {drive!r} has too few images for a path: one training image of one camera, and it needs two. "
            "Choose another --drive, --path test, or a camera path in a file (--path FILE.json)."
        )
    keys = keys[:: min(max(1, math.ceil(FRAMES_PER_KEY * len(keys) / count)), len(keys) - 1)]
    poses = interpolate_poses(upright_poses_of(keys).astype(np.float64), count)
    camera = _held_upright(keys[0], cameras[keys[0].camera_key])
    size = size or _downsampled(camera, downsample)
    return [View(camera, pose, *size, drive) for pose in poses]


def read_camera_path(path: Path, size: tuple[int, int] | None = None) -> list[View]:
    """The frames of a camera-path file, in the coordinates of the scene.

    Two forms: nerfstudio's (`camera_path` with `camera_to_world` 4 x 4 in OpenGL axes and a vertical `fov` in degrees,
    `render_width`, `render_height`), and a plain one (`frames` with `world_from_cam` 3 x 4 in OpenCV axes, `width`,
    `height`, `fov_deg`, and per frame if wanted `fov_deg` and `drive`). `size` (width, height) wins over the file's.
    A path of nerfstudio's viewer is in the frame that nerfstudio moved the scene to: its dataparser_transforms.json
    beside the file is undone. Raises UserError that names the file and the frame.
    """
    tree = read_json(path, "camera path", allow_nan=True)
    form = next((form for form in _FORMS if isinstance(tree, dict) and isinstance(tree.get(form.frames), list)), None)
    if form is None:
        raise UserError(f"The camera path {path} has neither a list `camera_path` (nerfstudio's form) nor `frames`.")
    frames = tree[form.frames]
    if not frames:
        raise UserError(f"The camera path {path} has no frame.")
    if tree.get("camera_type", "perspective") != "perspective":
        raise UserError(f"The camera path {path} is {tree['camera_type']!r}; only perspective cameras can be rendered.")
    width, height = size or tuple(_side(path, tree, name) for name in (form.width, form.height))
    views = [_read_frame(path, number, frame, tree, form, width, height) for number, frame in enumerate(frames)]
    transforms = transforms_beside(path) if form.is_opengl else None
    if transforms is not None:
        world_from_path = read_transforms(transforms)
        log.info("The camera path is brought back into the frame of the capture by %s.", transforms)
        views = [_moved(view, world_from_path) for view in views]
    _check_distance(path, views)
    return views


def _check_distance(path: Path, views: Sequence[View]) -> None:
    for number, view in enumerate(views):
        if not np.abs(view.world_from_cam[:, 3]).max() <= FARTHEST_M:
            raise UserError(
                f"Frame {number} of the camera path {path} stands more than {FARTHEST_M:g} from the origin. Is the "
                "path in the scene's own unit?"
            )


def in_city(views: Sequence[View], path: Path, manifest: Manifest) -> list[View]:
    """The views of a camera-path file in the coordinates of the city; warns if they are far from it.

    A path in the capture's coordinates is shifted as the capture was (see scene/world_offset.py).
    """
    anchors = np.array([block.anchor_world for block in manifest.blocks])
    places = np.stack([view.world_from_cam[:, 3] for view in views])
    if any(manifest.world_offset_m):
        shift = Similarity(translation=-np.array(manifest.world_offset_m))
        if _distance(shift.points(places), anchors) < _distance(places, anchors):
            log.info("The camera path is in the capture's own coordinates: %s is subtracted.", manifest.world_offset_m)
            views, places = [_moved(view, shift) for view in views], shift.points(places)
    _warn_where_astray(path, places, anchors, manifest)
    return list(views)


def _moved(view: View, motion: Similarity) -> View:
    rotation, place = view.world_from_cam[:, :3], view.world_from_cam[:, 3]
    moved = np.column_stack([motion.rotation @ rotation, motion.points(place[None])[0]])
    return replace(view, world_from_cam=moved)


def _distance(places: np.ndarray, anchors: np.ndarray) -> float:
    """Distance of the path's typical place from the nearest block above which a warning is logged."""
    return float(np.linalg.norm(anchors - np.median(places, axis=0), axis=1).min())


def _warn_where_astray(path: Path, places: np.ndarray, anchors: np.ndarray, manifest: Manifest) -> None:
    """nerfstudio's own frame holds all cameras within 1 of the origin."""
    if manifest.layout is None:
        return
    reach_m, distance_m = _reach_m(manifest, manifest.layout), _distance(places, anchors)
    city_m = float(np.abs(anchors).max()) + reach_m
    is_shrunk = np.abs(places).max() <= _LARGEST_IN_NERFSTUDIO and city_m > _LARGE * _LARGEST_IN_NERFSTUDIO
    if distance_m > _FAR * reach_m or is_shrunk:
        log.warning(
            "The camera path %s lies %s, and blocks reach %.3g m. Is it in another frame? For a path of "
            "nerfstudio's viewer, lay its %s beside the file.",
            path,
            "within 1 of the origin" if is_shrunk else f"{distance_m:.3g} m from the nearest block",
            reach_m,
            TRANSFORMS_NAME,
        )


def _reach_m(manifest: Manifest, layout: Layout) -> float:
    """Largest distance of any block's cells from the block's anchor."""
    frame = layout.frame()
    stands = [frame.to_ground(np.array([block.anchor_world]))[0, :2] for block in manifest.blocks]
    spans_m = [
        float(np.linalg.norm(np.array(block.cells_xy or (stand,)) - stand, axis=1).max())
        for block, stand in zip(manifest.blocks, stands, strict=True)
    ]
    return max(spans_m) + layout.cell_reach_m


def camera_path_fps(path: Path) -> int | None:
    """`fps` of a camera-path file, a whole number; None if it has none. Raises UserError for others."""
    tree = read_json(path, "camera path", allow_nan=True)
    fps = tree.get("fps") if isinstance(tree, dict) else None
    if fps is None:
        return None
    if isinstance(fps, bool) or not isinstance(fps, int | float) or not 0.5 <= fps <= LARGEST_FPS:
        raise UserError(f"The camera path {path} has fps {fps!r}; give frames a second from 1 to {LARGEST_FPS}.")
    return round(fps) or 1


@dataclass(frozen=True, slots=True)
class _Form:
    """Names of the keys in one form of camera-path file."""

    frames: str
    pose: str
    width: str
    height: str
    fov_deg: str
    is_opengl: bool


_FORMS = (
    _Form("camera_path", "camera_to_world", "render_width", "render_height", "fov", True),
    _Form("frames", "world_from_cam", "width", "height", "fov_deg", False),
)


def _read_frame(
    path: Path, number: int, frame: Any, tree: dict[str, Any], form: _Form, width: int, height: int
) -> View:
    if not isinstance(frame, dict) or form.pose not in frame:
        raise UserError(f"Frame {number} of the camera path {path} has no {form.pose}.")
    fov_deg = frame.get(form.fov_deg, tree.get(form.fov_deg))
    if not isinstance(fov_deg, int | float) or not LEAST_FOV_DEG <= fov_deg < 180:
        raise UserError(
            f"Frame {number} of the camera path {path} has {form.fov_deg} {quote(fov_deg)}; the vertical field of "
            f"view must be a number of degrees between {LEAST_FOV_DEG} and 180."
        )
    pose = _pose(path, number, frame[form.pose])
    if form.is_opengl:
        pose = pose * OPENCV_FROM_OPENGL
    focal_px = height / 2 / math.tan(math.radians(fov_deg) / 2)
    camera = Camera.pinhole(width, height, focal_px)
    drive = frame.get("drive")
    return View(camera, pose, width, height, None if drive is None else str(drive))


def _pose(path: Path, number: int, value: Any) -> np.ndarray:
    """[3, 4] from 12 or 16 numbers, nested or flat."""
    try:
        numbers = np.asarray(value, dtype=np.float64).ravel()
    except (TypeError, ValueError):
        numbers = np.zeros(0)
    if numbers.size not in (12, 16) or not np.isfinite(numbers).all():
        raise UserError(f"Frame {number} of the camera path {path} has no pose of 3 x 4 or 4 x 4 finite numbers.")
    pose = numbers.reshape(-1, 4)[:3].copy()
    if not is_rotation(pose[:, :3]):
        raise UserError(f"Frame {number} of the camera path {path} has a pose whose left 3 x 3 part is not a rotation.")
    return pose


def _side(path: Path, tree: dict[str, Any], name: str) -> int:
    value = tree.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= LARGEST_SIDE_PX:
        raise UserError(
            f"The camera path {path} has {name} {value!r}; give a number of pixels from 1 to {LARGEST_SIDE_PX} there, "
            "or --size WIDTHxHEIGHT."
        )
    return value


def _one_camera(images: Sequence[ImageRecord]) -> list[ImageRecord]:
    """The images of the camera that took most, by name; all images if each has a separate camera."""
    counts = Counter(image.camera_key for image in images)
    key = max(sorted(counts), key=counts.__getitem__)
    ordered = sorted(images, key=lambda image: natural_order(image.name))
    return [image for image in ordered if image.camera_key == key] if counts[key] >= 4 else ordered


def _held_upright(image: ImageRecord, camera: Camera) -> Camera:
    """The image's camera; if its pixels lie on their side, a simple one of the upright picture."""
    if image.orientation.is_turned or image.orientation.exif == 1:
        return camera
    width, height = image.orientation.upright_size((camera.width, camera.height))
    return Camera.pinhole(width, height, max(focal_lengths(camera), default=max(width, height)))


def _downsampled(camera: Camera, downsample: int) -> tuple[int, int]:
    return max(1, camera.width // downsample), max(1, camera.height // downsample)
