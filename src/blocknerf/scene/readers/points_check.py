"""Checks of cameras and depth maps by sparse points. A disagreement is one warning; nothing is refused."""

import contextlib
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from blocknerf.core.camera import Camera
from blocknerf.core.logging import log
from blocknerf.scene.depth import DEPTH_ERRORS, holds_whole_numbers, read_depth_z_m
from blocknerf.scene.rays import pixels_of
from blocknerf.scene.scene import ImageRecord

_MOST_IMAGES = 300
_MOST_POINTS = 256
_LEAST_POINTS = 10
_MISS_PX, _MISS_SHARE = 3.0, 0.003
"""A miss is more than this many pixels, and more than this share of the picture's longer side."""
_OTHER_SIZE = 1.2
"""Keypoints whose picture had another size than the camera differ from it by this factor or more."""
_MOST_MAPS = 8
_DECADES = (1, 2, 3)
_NEAR_A_DECADE = 0.2


def check_cameras(
    root: Path,
    images: Sequence[ImageRecord],
    cameras: dict[str, Camera],
    points_world: np.ndarray,
    keypoints: dict[str, np.ndarray],
) -> None:
    """Warns if points do not appear where their images saw them, by medians over an image, in its pixels.

    `keypoints` has, by name, rows of `points_world` with pixels [k, 3] in the picture as it is read. An image without
    them must at least have the points that it sees in front of it and inside.
    """
    seeing = [image for image in images if len(image.point_rows) >= _LEAST_POINTS and image.rays_path is None]
    misses = {}
    for image in _spread_sample(seeing, _MOST_IMAGES):
        camera = cameras[image.camera_key]
        miss_px = _miss_px(image, camera, points_world, keypoints.get(image.name))
        misses[image.name] = miss_px, miss_px > max(_MISS_PX, _MISS_SHARE * max(camera.width, camera.height))
    bad = {name: miss_px for name, (miss_px, is_bad) in misses.items() if is_bad}
    if bad:
        worst = max(bad, key=bad.__getitem__)
        log.warning(
            "The sparse points of %s do not appear where %d of %d images saw them: typically they miss by %s, in %s by "
            "%s. Are focal lengths, distortion, poses or the size of pictures those of this capture?",
            root,
            len(bad),
            len(misses),
            _px(float(np.median(list(bad.values())))),
            worst,
            _px(bad[worst]),
        )


def check_depth(
    root: Path, images: Sequence[ImageRecord], cameras: dict[str, Camera], points_world: np.ndarray
) -> None:
    """Logs the unit of depth maps without one.

    Warns if depth maps and points differ by about 10, 100 or 1000: one of them is in another unit.
    """
    with_depth = [image for image in images if image.depth_path is not None]
    _say_unit(root, [image for image in with_depth if image.depth_unit_m is None])
    ratios = [
        ratio
        for image in _spread_sample(with_depth, _MOST_MAPS)
        if (ratio := _depth_over_points(image, cameras[image.camera_key], points_world)) is not None
    ]
    if not ratios:
        return
    typical = float(np.median(ratios))
    decades = math.log10(typical)
    if any(abs(abs(decades) - decade) < _NEAR_A_DECADE for decade in _DECADES):
        log.warning(
            "Depth maps of %s are typically %.3g times the depth of its sparse points. Are they in another unit? "
            "Floats are read as metres, whole numbers as millimetres.",
            root,
            typical,
        )


def _say_unit(root: Path, images: Sequence[ImageRecord]) -> None:
    for image in images:
        assert image.depth_path is not None
        with contextlib.suppress(*DEPTH_ERRORS):  # skipped, with the reason, when all are decoded
            if holds_whole_numbers(image.depth_path):
                log.info(
                    "Depth maps of %s hold whole numbers, as %s: they are taken as millimetres.",
                    root,
                    image.depth_path.name,
                )
            return


def _spread_sample(images: Sequence[ImageRecord], most: int) -> list[ImageRecord]:
    """Evenly chosen."""
    rows = np.unique(np.linspace(0, len(images) - 1, most).round().astype(int)) if images else []
    return [images[row] for row in rows]


def _miss_px(image: ImageRecord, camera: Camera, points_world: np.ndarray, keypoints: np.ndarray | None) -> float:
    """Median distance; infinite if most points are behind the camera."""
    if keypoints is None or len(keypoints) < _LEAST_POINTS:
        rows = image.point_rows[:: len(image.point_rows) // _MOST_POINTS + 1]
        pixels_xy = _pixels(image, camera, points_world[rows])
        outside = np.maximum(0, np.maximum(-pixels_xy, pixels_xy - (camera.width, camera.height)))
        return _median(np.linalg.norm(outside, axis=1))
    pixels_xy, seen_xy = _pixels(image, camera, points_world[keypoints[:, 0].astype(np.int64)]), keypoints[:, 1:]
    misses_px = [_median(np.linalg.norm(pixels_xy - seen_xy, axis=1))]
    seen_px, projected_px = (np.linalg.norm(xy, axis=1) for xy in (seen_xy, pixels_xy))
    known = (seen_px > 0) & (projected_px > 0) & np.isfinite(projected_px)
    if not known.any():
        return misses_px[0]
    scale = float(np.median(projected_px[known] / seen_px[known]))
    if max(scale, 1 / scale) > _OTHER_SIZE:
        misses_px.append(_median(np.linalg.norm(pixels_xy - scale * seen_xy, axis=1)))
    return min(misses_px)


def _pixels(image: ImageRecord, camera: Camera, points_world: np.ndarray) -> np.ndarray:
    return pixels_of(camera, _in_camera(image, points_world)).reshape(-1, 2)


def _in_camera(image: ImageRecord, points_world: np.ndarray) -> np.ndarray:
    return (points_world - image.world_from_cam[:, 3]) @ image.world_from_cam[:, :3]


def _median(distances: np.ndarray) -> float:
    return float(np.median(np.nan_to_num(distances, nan=np.inf, posinf=np.inf)))


def _depth_over_points(image: ImageRecord, camera: Camera, points_world: np.ndarray) -> float | None:
    """Median ratio where points fall on known depth; None with fewer than _LEAST_POINTS of these, or without a readable
    map."""
    rows = image.point_rows if len(image.point_rows) else np.arange(len(points_world))
    points_cam = _in_camera(image, points_world[rows[:: len(rows) // (8 * _MOST_POINTS) + 1]])
    pixels_xy = pixels_of(camera, points_cam).reshape(-1, 2)
    with np.errstate(invalid="ignore"):
        inside = np.all((pixels_xy >= 0) & (pixels_xy < (camera.width, camera.height)), axis=1) & (points_cam[:, 2] > 0)
    if inside.sum() < _LEAST_POINTS or image.depth_path is None:
        return None
    try:
        depth_z_m = read_depth_z_m(image.depth_path, (camera.width, camera.height), image.orientation)
    except DEPTH_ERRORS:  # the store says so
        return None
    columns, rows = pixels_xy[inside].astype(int).T
    mapped, wanted = depth_z_m[rows, columns], points_cam[inside, 2]
    known = mapped > 0
    return float(np.median(mapped[known] / wanted[known])) if known.sum() >= _LEAST_POINTS else None


def _px(miss_px: float) -> str:
    return f"{miss_px:.1f} px" if math.isfinite(miss_px) else "lying behind the camera"
