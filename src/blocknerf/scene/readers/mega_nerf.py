"""Folders of Mega-NeRF (Turki et al. 2022): Mill 19, UrbanScene3D, Quad 6k.

train/ and val/ have photographs in rgbs/ and a file of tensors for each in metadata/; val is the test set. Poses are
world_from_cam in OpenGL camera axes; the world's axes are down, right, backwards (drb), its origin is `origin_drb` and
its unit `pose_scale_factor` metres, both in coordinates.pt. Here positions are metres from that origin.
`distortion` is passed over: the photographs in rgbs/ are undistorted already.
"""

import os
import zipfile
from _pickle import UnpicklingError  # the error alone: nothing here unpickles
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from blocknerf.core.camera import Camera
from blocknerf.core.errors import UserError
from blocknerf.core.reading import Damaged, opened, read_text
from blocknerf.geometry.se3 import OPENCV_FROM_OPENGL
from blocknerf.scene.readers.candidates import Candidate, Capture, folder_of
from blocknerf.scene.readers.found_files import FileFinder, Found, Way

_MOST_BYTES = 64 << 20
"""Of one image's numbers: a few kilobytes as a rule."""


def finds_mega_nerf(data_root: Path) -> bool:
    return (data_root / "coordinates.pt").is_file()


def read_mega_nerf(data_root: Path) -> Capture:
    """Raises UserError that names the file and field where something is missing, damaged, or holds code."""
    scale_m = _scale_m(data_root / "coordinates.pt")
    names = _original_names(data_root / "mappings.txt")
    by_split = {split: sorted((data_root / split / "metadata").glob("[!.]*.pt")) for split in ("train", "val")}
    if not by_split["train"]:
        raise UserError(f"{data_root / 'train' / 'metadata'} holds no .pt file. Is {data_root} a Mega-NeRF data set?")
    wanted = [_photograph_of(path) for paths in by_split.values() for path in paths]
    photographs = FileFinder(data_root).find(wanted, usual=frozenset({Way.ENDING}))
    candidates = {
        split: [_candidate(path, photographs[_photograph_of(path)], names, scale_m) for path in paths]
        for split, paths in by_split.items()
    }
    test_names = frozenset(candidate.name for candidate in candidates["val"])
    return Capture(candidates["train"] + candidates["val"], test_names=test_names or None)


def _photograph_of(path: Path) -> str:
    """Of a file of metadata; the ending may be another."""
    return f"{path.parents[1].name}/rgbs/{path.stem}.jpg"


def _candidate(path: Path, photograph: Found, names: dict[str, str], scale_m: float) -> Candidate:
    fields = _load(path)
    width, height = (_whole(fields, key, path) for key in "WH")
    intrinsics = _numbers(fields, "intrinsics", (4,), path)
    pose = _numbers(fields, "c2w", (3, 4), path) * OPENCV_FROM_OPENGL
    pose[:, 3] *= scale_m
    name = names.get(path.name, photograph.path.name)
    camera = Camera("PINHOLE", width, height, tuple(map(float, intrinsics)))
    return Candidate(
        name, photograph.path, camera, repr(camera), pose, drive=folder_of(name), problem=photograph.problem
    )


def _scale_m(path: Path) -> float:
    scale_m = float(_numbers(_load(path), "pose_scale_factor", (), path))
    if not 0 < scale_m < np.inf:
        raise UserError(f"{path}: 'pose_scale_factor' must be more than 0, not {scale_m}.")
    return scale_m


def _original_names(path: Path) -> dict[str, str]:
    """By the name of the metadata file; photographs that no line names keep their own. The file may be missing."""
    if not path.is_file():
        return {}
    lines = read_text(path, "list of original names").splitlines()
    pairs = [line.rsplit(",", 1) for line in lines if line.strip()]
    for number, pair in enumerate(pairs, 1):
        if len(pair) != 2:
            raise UserError(f"{path}, line {number}: a line is 'photograph,metadata.pt', not {pair[0]!r}.")
    return {metadata.strip(): name.strip().replace("\\", "/") for name, metadata in pairs}


def _load(path: Path) -> dict[str, Any]:
    """The tensors and numbers of a file. What would run code while it is read is refused, and not run."""
    try:
        with opened(path, "file of tensors") as handle:
            _require_no_bomb(handle)
            fields = torch.load(handle, map_location="cpu", weights_only=True)
    except UserError:
        raise
    except UnpicklingError as error:
        raise UserError(
            f"{path} is refused: it asks for more than tensors and numbers, and reading it in full could run code that "
            "somebody hid in it. Get the data set from its authors, or save the file again with nothing but tensors."
        ) from error
    except Exception as error:  # whatever the archive and its little language make of damaged bytes
        raise UserError(f"{path} is damaged or no file of torch.save: {error}. Restore a copy.") from error
    if not isinstance(fields, dict):
        raise UserError(f"{path} holds a {type(fields).__name__}, not named fields. Is it of a Mega-NeRF data set?")
    return fields


def _require_no_bomb(handle: BinaryIO) -> None:
    """torch.save packs without compressing: what grows when it is unpacked is not of it."""
    if os.fstat(handle.fileno()).st_size > _MOST_BYTES:
        raise Damaged(f"it has more than {_MOST_BYTES} bytes")
    if zipfile.is_zipfile(handle):
        with zipfile.ZipFile(handle) as archive:
            if sum(member.file_size for member in archive.infolist()) > _MOST_BYTES:
                raise Damaged(f"it grows to more than {_MOST_BYTES} bytes")
    handle.seek(0)


def _whole(fields: dict[str, Any], key: str, path: Path) -> int:
    value = float(_numbers(fields, key, (), path))
    if not 0 < value < 2**31:
        raise UserError(f"{path}: {key!r} must be a number of pixels, not {value}.")
    return int(value)


def _numbers(fields: dict[str, Any], key: str, shape: tuple[int, ...], path: Path) -> np.ndarray:
    if key not in fields:
        raise UserError(f"{path} has no field {key!r}. It has: {', '.join(map(str, fields)) or 'none'}.")
    try:
        values = torch.as_tensor(fields[key]).double().numpy().copy()
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{path}: {key!r} must hold numbers, not {type(fields[key]).__name__}.") from error
    if values.shape != shape:
        raise UserError(f"{path}: {key!r} must have the shape {shape}, not {values.shape}.")
    return values
