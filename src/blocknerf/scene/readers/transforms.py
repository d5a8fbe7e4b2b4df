"""transforms.json in the dialects of instant-ngp and nerfstudio becomes candidates.

https://docs.nerf.studio/quickstart/data_conventions.html: poses are world_from_cam in OpenGL camera axes (x right,
y up, z backward); intrinsics stand in the file once or in each frame. Poses are kept in the file's own units and frame:
`applied_transform` and `applied_scale`, which tell what was done to them before, are done already.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from blocknerf.core.errors import UserError
from blocknerf.core.logging import log
from blocknerf.core.ply import read_points
from blocknerf.core.reading import read_json
from blocknerf.geometry.se3 import OPENCV_FROM_OPENGL
from blocknerf.scene.readers.candidates import Candidate, Capture
from blocknerf.scene.readers.found_files import DEPTH_ENDINGS, FileFinder, Found, name_in_images
from blocknerf.scene.scene import Camera

TRANSFORMS = "transforms.json"
_PERSPECTIVE = ("PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "FULL_OPENCV")
_FISHEYE = ("OPENCV_FISHEYE", "SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE")
_PANORAMA = "EQUIRECTANGULAR"
_NUMBERS = (
    *("w", "h", "fl_x", "fl_y", "cx", "cy", "camera_angle_x", "camera_angle_y"),
    *("k1", "k2", "k3", "k4", "k5", "k6", "p1", "p2"),
)


@dataclass(frozen=True, slots=True)
class _Files:
    """What frames and splits name, found."""

    photographs: dict[str, Found]
    masks: dict[str, Found]
    depth: dict[str, Found]


def finds_transforms(data_root: Path) -> bool:
    return (data_root / TRANSFORMS).is_file()


def read_transforms(data_root: Path) -> Capture:
    """Raises UserError when the file is missing, damaged, or without frames or intrinsics that can be used."""
    path = data_root / TRANSFORMS
    tree = read_json(path, "transforms file", allow_nan=True)
    frames = tree.get("frames") if isinstance(tree, dict) else None
    if not isinstance(frames, list) or not all(isinstance(frame, dict) for frame in frames):
        raise UserError(f"{path} has no list of frames. Is it a transforms.json of instant-ngp or nerfstudio?")
    if "fisheye_crop_radius" in tree:
        log.warning("%s: 'fisheye_crop_radius' is passed over; hide what lies outside of it with masks.", path)
    listed = {key: _listed(tree, key, path) for key in ("train_filenames", "val_filenames", "test_filenames")}
    files = _files_of(frames, listed, data_root, path)
    splits = {key: None if names is None else _names(names, files) for key, names in listed.items()}
    keys: dict[tuple, str] = {}
    candidates = [_candidate(tree, frame, number, files, path, keys, splits) for number, frame in enumerate(frames)]
    test_names = _test_names(splits, [candidate.name for candidate in candidates])
    return Capture(candidates, *_points(tree, data_root, path), test_names=test_names)


def _points(tree: dict, data_root: Path, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Positions and colours of `ply_file_path`, in the frame of the poses; none says which image saw which."""
    named = _file_name(tree, "ply_file_path", str(path))
    if named is not None:
        ply = FileFinder(data_root).find([named], folders=("",), endings=(".ply",))[named].path
        if ply.is_file():
            return read_points(ply)
        log.warning("%s names the points %s, and there is no such file.", path, ply)
    return np.zeros((0, 3)), np.zeros((0, 3), np.uint8)


def _candidate(
    tree: dict,
    frame: dict,
    number: int,
    files: _Files,
    path: Path,
    keys: dict[tuple, str],
    splits: dict[str, frozenset[str] | None],
) -> Candidate:
    where = f"{path}, frame {number}"
    photograph = files.photographs[frame["file_path"]]
    name = name_in_images(photograph.name)
    values = {key: _number({**tree, **frame}, key, where) for key in _NUMBERS}
    model = _model_name(tree, frame, values, where)
    signature = (model, *values.values())
    return Candidate(
        name=name,
        path=photograph.path,
        camera=_camera(model, values, where),
        camera_key=keys.setdefault(signature, str(len(keys))),
        world_from_cam=_world_from_cam(frame.get("transform_matrix"), where),
        mask_path=None if frame.get("mask_path") is None else files.masks[frame["mask_path"]].path,
        depth_path=None if frame.get("depth_file_path") is None else files.depth[frame["depth_file_path"]].path,
        exposure=_exposure(frame, where),
        problem=photograph.problem or _outside_splits(name, splits),
    )


def _files_of(frames: list[dict], splits: dict[str, list[str] | None], data_root: Path, path: Path) -> _Files:
    def named(key: str) -> list[str]:
        values = (_file_name(frame, key, f"{path}, frame {number}") for number, frame in enumerate(frames))
        return [value for value in values if value is not None]

    for number, frame in enumerate(frames):
        if frame.get("file_path") is None:
            raise UserError(f"{path}, frame {number}: 'file_path' must name an image, and is missing.")

    finder = FileFinder(data_root)
    listed = [name for names in splits.values() for name in names or ()]
    return _Files(
        finder.find([*named("file_path"), *listed]),
        finder.find(named("mask_path"), folders=("",), shortest_tail=2),
        finder.find(named("depth_file_path"), folders=("",), endings=DEPTH_ENDINGS, shortest_tail=2),
    )


def _file_name(tree: dict, key: str, where: str) -> str | None:
    value = tree.get(key)
    if value is not None and not isinstance(value, str):
        raise UserError(f"{where}: {key!r} must name a file, not {value!r}.")
    return value


def _number(values: dict, key: str, where: str) -> float | None:
    value = values.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UserError(f"{where}: {key!r} must be a number, not {value!r}.")
    return float(value)


def _exposure(frame: dict, where: str) -> float | None:
    exposure = _number(frame, "exposure", where)
    if exposure is not None and not 0 < exposure < math.inf:
        raise UserError(f"{where}: 'exposure' must be more than 0 (shutter x gain), not {exposure!r}.")
    return exposure


def _model_name(tree: dict, frame: dict, values: dict[str, float | None], where: str) -> str:
    """The COLMAP model that holds these intrinsics."""
    named = frame.get("camera_model", tree.get("camera_model"))
    if named is None and frame.get("is_fisheye", tree.get("is_fisheye")):
        named = "OPENCV_FISHEYE"
    if named == _PANORAMA:
        return _PANORAMA
    if named in _FISHEYE:
        return "THIN_PRISM_FISHEYE" if any(values[key] for key in ("p1", "p2")) else "OPENCV_FISHEYE"
    if named is not None and named not in _PERSPECTIVE:
        known = ", ".join((*_PERSPECTIVE, *_FISHEYE, _PANORAMA))
        raise UserError(f"{where}: the camera model {named!r} cannot be read; known are {known}.")
    if any(values[key] for key in ("k3", "k4", "k5", "k6")):
        return "FULL_OPENCV"
    return "OPENCV" if any(values[key] for key in ("k1", "k2", "p1", "p2")) else "PINHOLE"


_DISTORTION = {
    "PINHOLE": (),
    "OPENCV": ("k1", "k2", "p1", "p2"),
    "FULL_OPENCV": ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6"),
    "OPENCV_FISHEYE": ("k1", "k2", "k3", "k4"),
    "THIN_PRISM_FISHEYE": ("k1", "k2", "p1", "p2", "k3", "k4", "sx1", "sy1"),
}


def _camera(model: str, values: dict[str, float | None], where: str) -> Camera | Callable[[int, int], Camera]:
    """The camera, or where the file does not tell its size, a function of the photograph's size."""
    if model != _PANORAMA and values["fl_x"] is None and values["camera_angle_x"] is None:
        raise UserError(f"{where}: there is neither 'fl_x' nor 'camera_angle_x', so the focal length is unknown.")

    def of_size(width: int, height: int) -> Camera:
        if model == _PANORAMA:
            return Camera(model, width, height, (float(width), float(height)))
        fl_x = _focal(values["fl_x"], values["camera_angle_x"], width) or 0.0
        fl_y = _focal(values["fl_y"], values["camera_angle_y"], height)
        cx = width / 2 if values["cx"] is None else values["cx"]
        cy = height / 2 if values["cy"] is None else values["cy"]
        distortion = (values.get(key) or 0.0 for key in _DISTORTION[model])
        return Camera(model, width, height, (fl_x, fl_x if fl_y is None else fl_y, cx, cy, *distortion))

    if values["w"] is None or values["h"] is None:
        return of_size
    return of_size(_pixels(values["w"]), _pixels(values["h"]))


def _pixels(size: float) -> int:
    return round(size) if math.isfinite(size) else 0


def _focal(focal: float | None, angle_rad: float | None, size: int) -> float | None:
    if focal is not None or angle_rad is None:
        return focal
    return size / 2 / math.tan(angle_rad / 2) if 0 < angle_rad < math.pi else 0.0


def _world_from_cam(matrix: Any, where: str) -> np.ndarray:
    try:
        pose = np.array(matrix, np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(f"{where}: 'transform_matrix' holds something that is no number.") from error
    if pose.shape not in ((3, 4), (4, 4)):
        raise UserError(f"{where}: 'transform_matrix' must have 4 rows of 4 numbers, not the shape {pose.shape}.")
    return pose[:3] * OPENCV_FROM_OPENGL


def _listed(tree: dict, key: str, path: Path) -> list[str] | None:
    names = tree.get(key)
    if names is None:
        return None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{path}: {key!r} must be a list of file names.")
    return names


def _names(listed: list[str], files: _Files) -> frozenset[str]:
    return frozenset(name_in_images(files.photographs[name].name) for name in listed)


def _test_names(splits: dict[str, frozenset[str] | None], names: list[str]) -> frozenset[str] | None:
    """The test split; the validation split where there is no test split; else what is not for training."""
    for key in ("test_filenames", "val_filenames"):
        if splits[key]:
            return splits[key]
    train = splits["train_filenames"]
    return None if train is None else frozenset(names) - train


def _outside_splits(name: str, splits: dict[str, frozenset[str] | None]) -> str | None:
    """With both a training and a test list, a frame in neither belongs to nobody; one in the unused list is no use."""
    train, test = splits["train_filenames"], splits["test_filenames"] or splits["val_filenames"]
    if train is None or not test or name in train | test:
        return None
    return "it is neither in the training nor in the test list"
