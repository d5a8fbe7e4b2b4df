"""The last step of every reader: candidates are checked, bad ones listed and skipped, the rest become the `Scene`."""

import hashlib
import io
import math
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from blocknerf.core.camera import Camera
from blocknerf.core.errors import UserError, listed, quote
from blocknerf.core.logging import log
from blocknerf.core.names import unique_names
from blocknerf.core.reading import is_file, read_bytes
from blocknerf.geometry.matrices import is_rotation
from blocknerf.scene.orientation import (
    Orientation,
    exif_orientation,
    is_decided_by_size,
    orientations,
    same_proportions,
)
from blocknerf.scene.photographs import DECODE_ERRORS, dynamic_mask, exposure_of, opened_picture
from blocknerf.scene.rays import focal_lengths, rescale_camera
from blocknerf.scene.readers.found_files import DEPTH_ENDINGS, FileFinder, Found
from blocknerf.scene.readers.masks import MASK_FOLDER, mask_paths, masks_alike
from blocknerf.scene.readers.points_check import check_cameras, check_depth
from blocknerf.scene.readers.sidecar import Sidecar
from blocknerf.scene.scene import FARTHEST_M, ImageRecord, Offset, Scene, image_id
from blocknerf.scene.segments import with_segments
from blocknerf.scene.world_offset import near_origin

_MAX_NAMED = 12
_MAX_SIDE = 1_000_000
_THREADS = 4
_FOCAL_SIDES = (1e-3, 1e4)
"""Focal length over the picture's longer side; a telescope has 1e3."""
_MASK_PIXELS, _LARGE_MASK = 100, 1 << 26
"""Maximum pixels of a mask per pixel of the image, checked before decoding; small masks may have more."""
_LARGEST_PARAMETER = 1e9
"""Maximum of a camera's parameters: principal points in pixels, and distortion."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An image that a capture lists, not checked yet.

    `camera` may be a function of the photograph's (width, height), if the intrinsics depend on it.
    """

    name: str
    path: Path
    camera: Camera | Callable[[int, int], Camera] | None
    camera_key: str
    world_from_cam: np.ndarray  # [3, 4] float64, OpenCV axes; the rotation is not checked yet
    mask_path: Path | None = None
    depth_path: Path | None = None
    depth_unit_m: float | None = None  # see ImageRecord
    exposure: float | None = None
    drive: str | None = None  # default: the folder in the name
    moment: float | None = None  # when it was taken, in any unit; without it, names give the order
    rays_path: Path | None = None  # see ImageRecord
    point_rows: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    keypoints: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))
    """[k, 3] of some points: its row, and its pixel in a picture of the camera's size."""
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Capture:
    candidates: list[Candidate]
    points_world: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))
    points_rgb: np.ndarray = field(default_factory=lambda: np.zeros((0, 3), np.uint8))
    test_names: frozenset[str] | None = None
    names_tell_order: bool = True
    points_error_px: np.ndarray | None = None
    """See Scene, but in pixels of the candidates' cameras."""


class Unusable(Exception):
    """Why an image is skipped."""


@dataclass(frozen=True, slots=True)
class _Extra:
    """The sidecar's entries of images, and the files that it and `masks/` have for them."""

    images: Mapping[str, Mapping[str, Any]]
    masks: Mapping[str, Found]  # by their names in the sidecar
    depth: Mapping[str, Found]
    masks_alike: Mapping[str, Found]  # by the image's name

    @staticmethod
    def found(root: Path, sidecar: Sidecar, names: Iterable[str], use_masks: bool) -> "_Extra":
        finder, entries = FileFinder(root), sidecar.images.values()
        masks = [extra["mask"] for extra in entries if "mask" in extra]
        depth = [extra["depth"] for extra in entries if "depth" in extra]
        return _Extra(
            images=sidecar.images,
            masks=finder.find(masks, folders=("",), shortest_tail=2),
            depth=finder.find(depth, folders=("",), endings=DEPTH_ENDINGS, shortest_tail=2),
            masks_alike=masks_alike(root, names) if use_masks else {},
        )


def make_scene(
    root: Path,
    capture: Capture,
    sidecar: Sidecar,
    use_masks: bool,
    use_depth: bool,
    known_offset_m: Offset | None = None,
) -> Scene:
    """Checks every candidate and puts the usable ones into a Scene, sorted by name and near the origin.

    Raises UserError if two images share a name, fewer than two are usable, the split names an image that is not listed,
    depth is requested and no image has any, or the positions are too far apart for float32. Points that are not finite
    or too far away are skipped.
    """
    candidates = _each_once(root, sorted(capture.candidates, key=lambda candidate: candidate.name))
    _check_extent(root, candidates)
    capture, row_of = _with_near_points(root, capture)
    names = unique_names([candidate.name for candidate in candidates])
    extra = _Extra.found(root, sidecar, {*names, *(candidate.name for candidate in candidates)}, use_masks)
    with ThreadPoolExecutor(_THREADS) as pool:
        headers = _orient(root, candidates, list(pool.map(_header, candidates)))
        checked = pool.map(
            lambda one, name, its: _check(root, one, name, its, extra, use_masks), candidates, names, headers
        )
        results = list(checked)
    usable = [result for result in results if not isinstance(result, str)]
    moments = {
        result[0].id: candidate.moment
        for candidate, result in zip(candidates, results, strict=True)
        if candidate.moment is not None and math.isfinite(candidate.moment) and not isinstance(result, str)
    }
    skipped = tuple((c.name, r) for c, r in zip(candidates, results, strict=True) if isinstance(r, str))
    _report(root, len(candidates), len(usable), skipped)
    test_names = sidecar.test_names if sidecar.test_names is not None else capture.test_names
    _check_test_names(root, test_names or frozenset(), [candidate.name for candidate in candidates])
    if test_names is not None:
        listed = zip(candidates, names, strict=True)
        test_names = frozenset(name for candidate, name in listed if candidate.name in test_names)
    records = [_seeing(record, row_of) for record, _ in usable]
    scene = Scene(
        root=root,
        cameras={record.camera_key: camera for record, camera in usable},
        images=_with_depth(root, with_segments(records, moments, capture.names_tell_order), use_depth),
        points_world=capture.points_world,
        points_rgb=capture.points_rgb,
        test_names=test_names,
        skipped=skipped,
        geo_origin=sidecar.geo_origin,
        points_error_px=_errors_px(capture, list(zip(candidates, results, strict=True))),
    )
    check_cameras(root, scene.images, scene.cameras, scene.points_world, _keypoints_of(candidates, scene, row_of))
    check_depth(root, scene.images, scene.cameras, scene.points_world)
    return near_origin(scene, known_offset_m)


def _keypoints_of(candidates: list[Candidate], scene: Scene, row_of: np.ndarray | None) -> dict[str, np.ndarray]:
    """By name: keypoints of kept points, in the picture as it is read."""
    camera_keys = {image.name: image.camera_key for image in scene.images}
    found = {}
    for candidate in candidates:
        if candidate.name in camera_keys and len(candidate.keypoints) and isinstance(candidate.camera, Camera):
            camera, keypoints = scene.cameras[camera_keys[candidate.name]], candidate.keypoints
            rows = keypoints[:, 0].astype(np.int64)
            rows = rows if row_of is None else row_of[rows]
            scales = camera.width / candidate.camera.width, camera.height / candidate.camera.height
            found[candidate.name] = np.column_stack([rows, keypoints[:, 1:] * scales])[rows >= 0]
    return found


def _each_once(root: Path, candidates: list[Candidate]) -> list[Candidate]:
    """Candidates without repetitions of the same file, camera and pose, by name.

    Raises UserError if two of one name differ.
    """
    once = candidates[:1]
    for candidate in candidates[1:]:
        last = once[-1]
        if candidate.name != last.name:
            once.append(candidate)
        elif not (
            candidate.path == last.path
            and candidate.camera_key == last.camera_key
            and np.allclose(candidate.world_from_cam, last.world_from_cam, rtol=1e-6, atol=1e-9, equal_nan=True)
        ):
            raise UserError(
                f"{root} lists two images of the name {quote(last.name)}, and not with the same file, camera and pose. "
                "Rename or remove one of them."
            )
    if len(once) < len(candidates):
        twice = len(candidates) - len(once)
        log.warning("%d of %d images are listed again with the same pose; each counts once.", twice, len(candidates))
    return once


def _report(root: Path, num_listed: int, num_usable: int, skipped: tuple[tuple[str, str], ...]) -> None:
    named = list_by_reason(skipped)
    if num_usable < 2:
        raise UserError(
            f"{root} lists {num_listed} images of which {num_usable} can be used; at least 2 are needed. "
            + (f"Skipped: {named}." if named else "Is this the folder of a capture?")
        )
    if skipped:
        log.warning("%d of %d images are skipped: %s.", len(skipped), num_listed, named)


def _check_test_names(root: Path, test_names: frozenset[str], known: list[str]) -> None:
    """A listed but skipped name (see `_report`) is no mistake in the split; an unknown name is."""
    unknown = sorted(test_names - set(known))
    if unknown:
        raise UserError(
            f"The test list of {root} names images that the capture does not list: {listed(unknown, _MAX_NAMED)}. "
            f"Names there are like {known[0]!r}; correct the list or remove these."
        )


def _with_depth(root: Path, records: list[ImageRecord], use_depth: bool) -> tuple[ImageRecord, ...]:
    """Depth is optional: if its file is missing, the image has none."""
    if not use_depth:
        return tuple(replace(record, depth_path=None) for record in records)
    missing = [record for record in records if record.depth_path is not None and not is_file(record.depth_path)]
    if missing:
        first = missing[0].depth_path
        log.warning("%d images of %s have no depth file where one is named, as %s.", len(missing), root, first)
    names = {record.name for record in missing}
    found = tuple(replace(record, depth_path=None) if record.name in names else record for record in records)
    if all(record.depth_path is None for record in found):
        raise UserError(
            f"dataset.use_depth is true, but no image of {root} has a depth map. Name them in blocknerf_scene.json "
            "('depth') or transforms.json ('depth_file_path'), or set dataset.use_depth=false."
        )
    return found


def _check_extent(root: Path, candidates: list[Candidate]) -> None:
    """A camera that is far away is skipped; if most are, the capture's unit cannot be used."""
    places = np.array([candidate.world_from_cam[:, 3] for candidate in candidates]).reshape(-1, 3)
    farthest = np.abs(places[np.isfinite(places).all(axis=1)]).max(axis=1)
    if 2 * (farthest > FARTHEST_M).sum() > len(farthest):
        raise UserError(
            f"The cameras of {root} stand up to {farthest.max():.3g} from the origin, and {FARTHEST_M:g} is the most "
            f"that can be worked with. Divide all positions (cameras and points) by one number, as "
            f"{farthest.max() / 1e3:.0e}, or export the capture in a larger unit, as metres."
        )


def _with_near_points(root: Path, capture: Capture) -> tuple[Capture, np.ndarray | None]:
    """The capture with the points that rays can reach, and for each row of its points their row, -1 if skipped; None if
    none is skipped."""
    points, errors_px = np.asarray(capture.points_world, np.float64), capture.points_error_px
    near = np.asarray((np.abs(points) <= FARTHEST_M).all(axis=1))
    if near.all():
        return replace(capture, points_world=points), None
    log.warning(
        "%d of %d points of %s are at no place that can be worked with.",
        len(points) - int(near.sum()),
        len(points),
        root,
    )
    kept = replace(
        capture,
        points_world=points[near],
        points_rgb=capture.points_rgb[near],
        points_error_px=None if errors_px is None else errors_px[near],
    )
    return kept, np.where(near, np.cumsum(near) - 1, -1)


def _errors_px(
    capture: Capture, checked: list[tuple[Candidate, tuple[ImageRecord, Camera] | str]]
) -> np.ndarray | None:
    """Errors of points in pixels of most photographs, which may be of another size than their cameras."""
    if capture.points_error_px is None:
        return None
    scales = [
        result[1].width / candidate.camera.width
        for candidate, result in checked
        if not isinstance(result, str) and isinstance(candidate.camera, Camera)
    ]
    return capture.points_error_px * float(np.median(scales))


def _seeing(record: ImageRecord, row_of: np.ndarray | None) -> ImageRecord:
    if row_of is None:
        return record
    rows = row_of[record.point_rows]
    return replace(record, point_rows=rows[rows >= 0])


def list_by_reason(skipped: tuple[tuple[str, str], ...]) -> str:
    """(name, reason) pairs as a sentence: "the reason: name, name; another reason: name, and 3 more"."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in skipped[:_MAX_NAMED]:
        by_reason.setdefault(reason, []).append(name)
    text = "; ".join(f"{reason}: {', '.join(names)}" for reason, names in by_reason.items())
    return text + (f", and {len(skipped) - _MAX_NAMED} more" if len(skipped) > _MAX_NAMED else "")


@dataclass(frozen=True, slots=True)
class _Header:
    """The header of a photograph, read without decoding. `size` is (width, height) as stored."""

    content_sha256: str
    size: tuple[int, int]
    exposure: float | None
    orientation: Orientation
    has_alpha: bool


def _orient(root: Path, candidates: list[Candidate], headers: list[_Header | str]) -> list[_Header | str]:
    """The headers, with the orientation rule of scene/orientation.py for the whole capture."""
    found = {row: header for row, header in enumerate(headers) if isinstance(header, _Header)}
    rows = {row: header for row, header in found.items() if header.orientation.exif != 1}
    lying = [(header.orientation.exif, header.size, _size_of(candidates[row].camera)) for row, header in rows.items()]
    if not lying:
        return headers
    decided = orientations(*zip(*lying, strict=True))
    oriented = list(headers)
    for (row, header), orientation in zip(rows.items(), decided, strict=True):
        oriented[row] = replace(header, orientation=orientation)
    num_turned = sum(orientation.is_turned for orientation in decided)
    if num_turned:
        log.info(
            "%d photographs of %s are turned upright, as EXIF says: their cameras are of that size.", num_turned, root
        )
    untold = sum(not is_decided_by_size(*one) for one in lying)
    if untold and num_turned < len(decided):
        log.info(
            "%d photographs of %s are taken as they are stored, for their size does not tell whether their cameras are "
            "of the picture as EXIF turns it.",
            untold,
            root,
        )
    return oriented


def _size_of(camera: Camera | Callable[[int, int], Camera] | None) -> tuple[int, int] | None:
    return (camera.width, camera.height) if isinstance(camera, Camera) else None


def _check(
    root: Path, candidate: Candidate, name: str, header: _Header | str, extra: _Extra, use_masks: bool
) -> tuple[ImageRecord, Camera] | str:
    try:
        return _record(root, candidate, name, header, extra, use_masks)
    except Unusable as problem:
        return str(problem)


def _record(
    root: Path, candidate: Candidate, name: str, header: _Header | str, extra: _Extra, use_masks: bool
) -> tuple[ImageRecord, Camera]:
    if candidate.problem is not None:
        raise Unusable(candidate.problem)
    world_from_cam = _checked_pose(candidate.world_from_cam)
    if isinstance(header, str):
        raise Unusable(header)
    orientation, size = header.orientation, header.orientation.picture_size(header.size)
    camera = _checked_camera(candidate.camera, size)
    resized = candidate.camera != camera
    settings = extra.images.get(candidate.name, {})
    masks = _masks(root, candidate, name, extra, size, orientation) if use_masks else ()
    record = ImageRecord(
        id=image_id(candidate.name, header.content_sha256),
        name=name,
        path=candidate.path,
        camera_key=candidate.camera_key + (f"@{size[0]}x{size[1]}" if resized else ""),
        world_from_cam=world_from_cam,
        drive=settings.get("drive", candidate.drive or folder_of(candidate.name)),
        mask_paths=masks,
        alpha="unchosen" if header.has_alpha else "opaque",
        depth_unit_m=candidate.depth_unit_m,
        exposure=float(settings["exposure"]) if "exposure" in settings else candidate.exposure or header.exposure,
        depth_path=extra.depth[settings["depth"]].path if "depth" in settings else candidate.depth_path,
        point_rows=candidate.point_rows,
        rays_path=candidate.rays_path,
        orientation=orientation,
        listed_name=candidate.name if candidate.name != name else None,
    )
    return record, camera


def folder_of(name: str) -> str:
    """The default drive of an image: the folder in its name."""
    folder = PurePosixPath(name).parent.as_posix()
    return "0" if folder in (".", "", "/") else folder


def _checked_pose(world_from_cam: np.ndarray) -> np.ndarray:
    """The pose with its rotation made exact; readers' files carry few digits."""
    if not np.isfinite(world_from_cam).all():
        raise Unusable("its pose holds a value that is not finite")
    if np.abs(world_from_cam[:, 3]).max() > FARTHEST_M:
        raise Unusable(f"it stands more than {FARTHEST_M:g} from the origin")
    rotation = world_from_cam[:, :3]
    if not is_rotation(rotation):
        raise Unusable("its pose is not a rotation (a scaled, mirrored or skewed matrix)")
    left, _, right = np.linalg.svd(rotation)
    return np.concatenate([left @ right, world_from_cam[:, 3:]], axis=1).astype(np.float64)


def _checked_camera(camera: Camera | Callable[[int, int], Camera] | None, size: tuple[int, int]) -> Camera:
    if camera is None:
        raise Unusable("the capture does not have the camera that it names")
    if callable(camera):
        camera = camera(*size)
    if not (0 < camera.width <= _MAX_SIDE and 0 < camera.height <= _MAX_SIDE):
        raise Unusable(f"its camera is {camera.width} x {camera.height} pixels large")
    if not all(map(math.isfinite, camera.params)):
        raise Unusable("its camera has a parameter that is not finite")
    focals, side = focal_lengths(camera), max(camera.width, camera.height)
    if any(focal <= 0 for focal in focals):
        raise Unusable("its camera has a focal length that is zero or negative")
    if not all(_FOCAL_SIDES[0] * side <= focal <= _FOCAL_SIDES[1] * side for focal in focals):
        raise Unusable(f"its camera has a focal length of {max(focals):.3g} pixels, and its picture {side}")
    if max(map(abs, camera.params)) > _LARGEST_PARAMETER:
        raise Unusable(f"its camera has a parameter above {_LARGEST_PARAMETER:g}")
    if camera.model == "EQUIRECTANGULAR" and camera.params != (camera.width, camera.height):
        raise Unusable("the parameters of its panorama are not the picture's width and height")
    if size == (camera.width, camera.height):
        return camera
    expected = (camera.width, camera.height)
    if not same_proportions(size, expected):
        raise Unusable(f"it is {_times(size)} pixels large, but its camera {_times(expected)}")
    return rescale_camera(camera, *size)


def _header(candidate: Candidate) -> _Header | str:
    """The header of the photograph, or the reason why it cannot be read."""
    path = candidate.path
    if candidate.problem is not None:
        return candidate.problem
    if not is_file(path):
        return f"there is no such file in {path.parent}"
    try:
        content = read_bytes(path, "photograph")
        with opened_picture(io.BytesIO(content)) as image:
            return _Header(
                content_sha256=hashlib.sha256(content).hexdigest(),
                size=image.size,
                exposure=exposure_of(image),
                orientation=Orientation(exif_orientation(image)),
                has_alpha=image.has_transparency_data,
            )
    except DECODE_ERRORS as error:
        return f"{path} cannot be read as an image ({error})"


def _masks(
    root: Path,
    candidate: Candidate,
    name: str,
    extra: _Extra,
    size: tuple[int, int],
    orientation: Orientation,
) -> tuple[Path, ...]:
    """The image's masks; each must be a picture of the image's proportions."""
    mask_name = extra.images.get(candidate.name, {}).get("mask")
    named = extra.masks[mask_name].path if mask_name is not None else candidate.mask_path
    for one in () if named is not None else (name, candidate.name):
        if one in extra.masks_alike and extra.masks_alike[one].problem is not None:
            raise Unusable(f"its mask in {root / MASK_FOLDER} is not clear: {extra.masks_alike[one].problem}")
    paths = mask_paths(root, name, named, candidate.name, candidate.path, extra.masks_alike)
    beside = dynamic_mask(candidate.path)
    paths += (beside,) if is_file(beside) else ()
    for path in paths:
        if not is_file(path):
            raise Unusable(f"there is no mask {path}")
        try:
            with opened_picture(path) as mask:
                mask_size = mask.size
        except DECODE_ERRORS as error:
            raise Unusable(f"the mask {path} cannot be read as an image ({error})") from error
        if mask_size[0] * mask_size[1] > max(_MASK_PIXELS * size[0] * size[1], _LARGE_MASK):
            raise Unusable(f"the mask {path} has {_times(mask_size)} pixels, which is far more than the image has")
        if not orientation.fits(mask_size, size):
            raise Unusable(f"the mask {path} is {_times(mask_size)} pixels large, but the image {_times(size)}")
    return paths


def _times(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"
