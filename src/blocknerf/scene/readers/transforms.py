"""transforms.json in the dialects of instant-ngp and nerfstudio becomes candidates.

https://docs.nerf.studio/quickstart/data_conventions.html: poses are world_from_cam in OpenGL camera axes (x right, y
up, z backward); intrinsics are given once in the file or in each frame. Poses keep the file's units and frame:
`applied_transform` and `applied_scale` are already applied.
"""

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from blocknerf.core.errors import UserError, quote
from blocknerf.core.logging import log
from blocknerf.core.ply import read_points
from blocknerf.core.reading import is_file, read_json
from blocknerf.geometry.matrices import is_rotation
from blocknerf.geometry.se3 import OPENCV_FROM_OPENGL
from blocknerf.scene.photographs import DECODE_ERRORS, opened_picture
from blocknerf.scene.readers.candidates import Candidate, Capture
from blocknerf.scene.readers.found_files import DEPTH_ENDINGS, FileFinder, Found, name_in_images
from blocknerf.scene.readers.transforms_keys import name_others, require_one_pose
from blocknerf.scene.readers.transforms_lens import Lens, lens_of, number

TRANSFORMS = "transforms.json"
_SPLITS = ("train_filenames", "val_filenames", "test_filenames")
_DEPTH = ("depth_file_path", "depth_path")
"""nerfstudio's and instant-ngp's name of it."""
_SCALES = (1e-3, 1e3)
"""Scale of a rotation; a camera object of Blender may be scaled."""
_MITSUBA = np.array([-1.0, 1.0, -1.0, 1.0])
"""Cameras of `normal_mts_args` (Mitsuba) look along z with x to the left, as instant-ngp reads them."""


@dataclass(frozen=True, slots=True)
class Frame:
    """An entry of a list of frames, with the keys at the top of its file."""

    top: dict[str, Any]
    entry: dict[str, Any]
    where: str

    @property
    def both(self) -> dict[str, Any]:
        """Keys of a frame override those at the top."""
        return {**self.top, **self.entry}

    def file_name(self, key: str) -> str | None:
        return _file_name(self.entry, key, self.where)

    @property
    def photograph(self) -> str:
        name = self.file_name("file_path")
        if name is None:
            raise UserError(f"{self.where}: 'file_path' must name an image, and is missing.")
        return name

    @property
    def depth(self) -> str | None:
        return next((name for key in _DEPTH if (name := self.file_name(key)) is not None), None)


def finds_transforms(data_root: Path) -> bool:
    return (data_root / TRANSFORMS).is_file()


def read_transforms(data_root: Path) -> Capture:
    """Raises UserError if the file is missing or damaged, or has no usable frames or intrinsics."""
    path = data_root / TRANSFORMS
    tree, frames = read_frames(path)
    listed = {key: _listed(tree, key, path) for key in _SPLITS}
    names_listed = [name for names in listed.values() for name in names or ()]
    candidates, found = candidates_of(data_root, frames, names_listed)
    splits = {key: None if names is None else _names(names, found) for key, names in listed.items()}
    test_names = _test_names(splits, [candidate.name for candidate in candidates])
    candidates = [_within_splits(candidate, splits) for candidate in candidates]
    return Capture(candidates, *_points(tree, data_root, path), test_names=test_names)


def read_frames(path: Path) -> tuple[dict[str, Any], list[Frame]]:
    """The tree of a file and its frames. Raises UserError if it has none; logs ignored keys."""
    tree = read_json(path, "transforms file", allow_nan=True)
    frames = tree.get("frames") if isinstance(tree, dict) else None
    if not isinstance(frames, list) or not all(isinstance(frame, dict) for frame in frames):
        raise UserError(f"{path} has no list of frames. Is it a transforms.json of instant-ngp or nerfstudio?")
    name_others(path, tree, frames)
    return tree, [Frame(tree, frame, f"{path}, frame {row}") for row, frame in enumerate(frames)]


def candidates_of(
    data_root: Path, frames: Sequence[Frame], names_listed: Iterable[str] = ()
) -> tuple[list[Candidate], dict[str, Found]]:
    """A candidate for each frame, and the photographs that were found for their names and for `names_listed`.

    Raises UserError that names the frame.
    """
    finder = FileFinder(data_root)
    photographs = finder.find([*(frame.photograph for frame in frames), *names_listed])
    named = [name for frame in frames if (name := frame.file_name("mask_path")) is not None]
    masks = finder.find(named, folders=("",), shortest_tail=2)
    named = [name for frame in frames if (name := frame.depth) is not None]
    depth = finder.find(named, folders=("",), endings=DEPTH_ENDINGS, shortest_tail=2)
    lenses: dict[Lens, Path] = {}
    keys: dict[Lens, str] = {}
    candidates, scales = [], []
    for frame in frames:
        photograph, lens = photographs[frame.photograph], lens_of(frame.top, frame.entry, frame.where)
        _refuse_rays(finder, data_root, photograph.path, frame.where)
        lenses.setdefault(lens, photograph.path)
        mask, depth_name = frame.file_name("mask_path"), frame.depth
        pose = _world_from_cam(frame)
        scale = _scale_of(pose)
        scales += [scale] if scale != 1 else []
        candidates.append(
            Candidate(
                name=name_in_images(photograph.name),
                path=photograph.path,
                camera=lens.camera(),
                camera_key=keys.setdefault(lens, str(len(keys))),
                world_from_cam=_unscaled(pose, scale),
                mask_path=None if mask is None else masks[mask].path,
                depth_path=None if depth_name is None else depth[depth_name].path,
                depth_unit_m=_depth_unit_m(frame),
                exposure=_exposure(frame),
                problem=photograph.problem,
            )
        )
    _say_sizes(lenses)
    if scales:
        log.warning(
            "The rotations of %d of %d poses are scaled, by %.4g to %.4g: the scale is taken off, positions stay. Is "
            "the camera scaled where they come from?",
            len(scales),
            len(frames),
            min(scales),
            max(scales),
        )
    return candidates, photographs


def _points(tree: dict, data_root: Path, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Positions and colours of `ply_file_path`, in the frame of the poses; which image sees which is unknown."""
    named = _file_name(tree, "ply_file_path", str(path))
    if named is not None:
        ply = FileFinder(data_root).find([named], folders=("",), endings=(".ply",))[named].path
        if is_file(ply):
            return read_points(ply)
        log.warning("%s names the points %s, and there is no such file.", path, ply)
    return np.zeros((0, 3)), np.zeros((0, 3), np.uint8)


def _file_name(tree: dict, key: str, where: str) -> str | None:
    value = tree.get(key)
    if value is not None and not isinstance(value, str):
        raise UserError(f"{where}: {key!r} must name a file, not {quote(value)}.")
    return value


def _refuse_rays(finder: FileFinder, data_root: Path, photograph: Path, where: str) -> None:
    """Raises UserError if instant-ngp's rays of a photograph are beside it."""
    beside = Path(os.path.relpath(photograph.parent, data_root))
    if finder.has(f"{beside.as_posix()}/rays_{photograph.stem}.dat"):
        raise UserError(
            f"{where}: beside the photograph lie its rays, rays_{photograph.stem}.dat of instant-ngp, which are not "
            "read. Where the intrinsics say the same, move such files away."
        )


def _depth_unit_m(frame: Frame) -> float | None:
    """Metres per unit of its depth file, if given; `integer_depth_scale` is instant-ngp's name for it."""
    for key in ("depth_unit_scale_factor", "integer_depth_scale"):
        unit_m = number(frame.both, key, frame.where)
        if unit_m is not None and not 0 < unit_m < math.inf:
            raise UserError(f"{frame.where}: {key!r} must be more than 0, not {quote(unit_m)}.")
        if unit_m is not None:
            return unit_m
    return None


def _exposure(frame: Frame) -> float | None:
    exposure = number(frame.entry, "exposure", frame.where)
    if exposure is not None and not 0 < exposure < math.inf:
        raise UserError(f"{frame.where}: 'exposure' must be more than 0 (shutter x gain), not {exposure!r}.")
    return exposure


def _say_sizes(lenses: dict[Lens, Path]) -> None:
    """For missing 'w' and 'h', if the principal point shows that the intrinsics are for another size."""
    for lens, photograph in lenses.items():
        try:
            with opened_picture(photograph) as image:
                size = image.size
        except DECODE_ERRORS:  # skipped, with the reason, when all images are checked
            continue
        scale = lens.scale_of(*size)
        if scale != 1:
            log.warning(
                "'w' and 'h' are missing, and the principal point is the middle of a picture %g times as large as %s "
                "(%d x %d), so the intrinsics are taken to be for that. Give 'w' and 'h' if they are not.",
                scale,
                photograph.name,
                *size,
            )
            return


def _world_from_cam(frame: Frame) -> np.ndarray:
    matrix = require_one_pose(frame.entry, frame.where)
    try:
        pose = np.array(matrix, np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{frame.where}: 'transform_matrix' holds something that is not a number.") from error
    if pose.shape not in ((3, 4), (4, 4)):
        raise UserError(f"{frame.where}: 'transform_matrix' must have 4 rows of 4 numbers, not the shape {pose.shape}.")
    axes = OPENCV_FROM_OPENGL * _MITSUBA if "normal_mts_args" in frame.top else OPENCV_FROM_OPENGL
    return pose[:3] * axes


def _scale_of(pose: np.ndarray) -> float:
    """The scale of a camera's axes; 1 for a rotation, and if no plausible scale makes it one."""
    rotation = pose[:, :3]
    if is_rotation(rotation) or not np.abs(rotation).max() <= _SCALES[1]:
        return 1.0
    scale = float(np.linalg.norm(rotation, axis=0).mean())
    return scale if scale >= _SCALES[0] and is_rotation(rotation / scale) else 1.0


def _unscaled(pose: np.ndarray, scale: float) -> np.ndarray:
    return np.concatenate([pose[:, :3] / scale, pose[:, 3:]], axis=1)


def _listed(tree: dict, key: str, path: Path) -> list[str] | None:
    names = tree.get(key)
    if names is None:
        return None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{path}: {key!r} must be a list of file names.")
    return names


def _names(listed: list[str], found: dict[str, Found]) -> frozenset[str]:
    return frozenset(name_in_images(found[name].name) for name in listed)


def _test_names(splits: dict[str, frozenset[str] | None], names: list[str]) -> frozenset[str] | None:
    """The test split, or else the validation split, or else what is not for training."""
    for key in ("test_filenames", "val_filenames"):
        if splits[key]:
            return splits[key]
    train = splits["train_filenames"]
    return None if train is None else frozenset(names) - train


def _within_splits(candidate: Candidate, splits: dict[str, frozenset[str] | None]) -> Candidate:
    """With both a training and a test list, a frame in neither is unusable, and so is one in the unused list."""
    train, test = splits["train_filenames"], splits["test_filenames"] or splits["val_filenames"]
    if candidate.problem is not None or train is None or not test or candidate.name in train | test:
        return candidate
    return replace(candidate, problem="it is neither in the training nor in the test list")
