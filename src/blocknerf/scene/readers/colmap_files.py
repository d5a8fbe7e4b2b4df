"""COLMAP's model files, binary and text: https://colmap.github.io/format.html.

Not read through pycolmap, so that a truncated file is an error and never a crash, and quaternions are seen as stored.
`images` has the poses with and without the frames/rigs files of COLMAP >= 3.12.
"""

import mmap
import posixpath
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np

from blocknerf.core.camera import Camera
from blocknerf.core.errors import UserError
from blocknerf.core.logging import log
from blocknerf.core.names import natural_order
from blocknerf.core.reading import opened, opened_text
from blocknerf.core.system_errors import reason, remedy
from blocknerf.scene.colmap_module import pycolmap
from blocknerf.scene.rays import parameter_counts

_REMEDY = "Copy the file again, or export the model from COLMAP once more."
_NO_POINT = -1
_KEYPOINTS_KEPT = 256
"""Keypoints of an image; more are not needed to check its camera."""


@dataclass(frozen=True, slots=True)
class ColmapImage:
    """An image as stored in the file, not checked yet."""

    name: str
    camera_id: int
    quaternion_wxyz: tuple[float, ...]  # cam_from_world
    translation: tuple[float, ...]
    point_ids: np.ndarray  # [k] int64, ascending, unique
    kept_ids: np.ndarray  # [s] int64, of points of which a keypoint is kept
    kept_xy: np.ndarray  # [s, 2] their pixels


@dataclass(frozen=True, slots=True)
class ColmapModel:
    """COLMAP writes an error of -1, and other programs 0, where it is unknown."""

    cameras: dict[int, Camera]
    images: list[ColmapImage]
    point_ids: np.ndarray  # [P] int64, ascending
    points_world: np.ndarray  # [P, 3] float64
    points_rgb: np.ndarray  # [P, 3] uint8
    points_error_px: np.ndarray  # [P] float64, 0 where unknown


def find_models(data_root: Path) -> list[str]:
    """The COLMAP models of a capture, as paths in it: "sparse/0", "sparse/1", "colmap/sparse/0", ...

    A folder with both the binary and the text form of a model counts as two: "sparse/0/images.bin" and
    "sparse/0/images.txt".
    """
    places = [place for top in ("sparse", "colmap/sparse") for place in _with_subfolders(data_root, top)]
    return [model for place in (*places, "colmap", ".") for model in _models_in(data_root, place)]


def _with_subfolders(data_root: Path, place: str) -> list[str]:
    """COLMAP's mapper numbers its models: those come first, in the order of their numbers."""
    inside = [path.name for path in (data_root / place).glob("[!.]*") if path.is_dir()]
    return [*(f"{place}/{name}" for name in sorted(inside, key=natural_order)), place]


def _models_in(data_root: Path, place: str) -> list[str]:
    folder = data_root / place
    parts = {kind: [(folder / f"{part}.{kind}").is_file() for part in ("cameras", "images")] for kind in _READERS}
    if all(all(found) for found in parts.values()):
        return [posixpath.join(place, f"images.{kind}") for kind in _READERS]
    return [place] if any(any(found) for found in parts.values()) else []


def read_model(model: Path) -> ColmapModel:
    """Reads cameras, images and points3D of a folder (.bin, else .txt); given one of its files, those of that kind.

    Raises UserError that names a missing, unreadable or damaged file.
    """
    if model.suffix[1:] in _READERS and not model.is_dir():
        folder, kind = model.parent, model.suffix[1:]
    else:
        folder = model
        kind = "bin" if any((folder / f"{part}.bin").is_file() for part in ("cameras", "images")) else "txt"
    for part in ("cameras", "images"):
        if not (folder / f"{part}.{kind}").is_file():
            raise UserError(f"The COLMAP model in {folder} has no {part}.{kind}. {_REMEDY}")
    read_cameras, read_images, read_points = _READERS[kind]
    points = folder / f"points3D.{kind}"
    ids, positions, colours, errors = _read(read_points, points) if points.is_file() else ([], [], [], [])
    order = np.argsort(np.array(ids, np.int64))
    positions = np.array(positions, np.float64).reshape(-1, 3)
    order = order[np.isfinite(positions[order]).all(axis=1)]
    errors_px = np.array(errors, np.float64)[order]
    return ColmapModel(
        cameras=_read(read_cameras, folder / f"cameras.{kind}"),
        images=_read(read_images, folder / f"images.{kind}"),
        point_ids=np.array(ids, np.int64)[order],
        points_world=positions[order],
        points_rgb=np.array(colours, np.uint8).reshape(-1, 3)[order],
        points_error_px=np.where(np.isfinite(errors_px) & (errors_px > 0), errors_px, 0.0),
    )


def _read(reader: Callable[[Path], Any], path: Path) -> Any:
    try:
        return reader(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {reason(error)}; {remedy(error)}.") from error


@cache
def _model_names() -> dict[int, str]:
    return {int(model): name for name, model in pycolmap.CameraModelId.__members__.items()}


def _camera(model: str, width: int, height: int, params: tuple[float, ...], where: str) -> Camera:
    expected = parameter_counts().get(model)
    if expected is None:
        raise UserError(f"{where}: unknown camera model {model!r}; known are {', '.join(parameter_counts())}.")
    if len(params) != expected:
        raise UserError(f"{where}: a {model} camera has {expected} parameters, not {len(params)}. {_REMEDY}")
    return Camera(model, width, height, params)


# --- binary ---------------------------------------------------------------------------------------------------------


class _Cursor:
    """Walks through a file and never past its end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with opened(path, "model file") as handle:
            empty = path.stat().st_size == 0
            self.data = memoryview(b"" if empty else mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ))
        self.at = 0

    def span(self, num_bytes: int) -> int:
        """Moves on by `num_bytes` and returns where they begin."""
        begin, self.at = self.at, self.at + num_bytes
        if self.at > len(self.data):
            raise UserError(f"{self.path} is truncated: it ends at byte {len(self.data)}, inside a record. {_REMEDY}")
        return begin

    def take(self, layout: struct.Struct) -> tuple:
        return layout.unpack_from(self.data, self.span(layout.size))

    def text(self) -> str:
        piece = self.data[self.at : self.at + 4096].tobytes()
        length = piece.find(b"\0")
        begin = self.span((length if length >= 0 else len(piece)) + 1)
        return self.data[begin : self.at - 1].tobytes().decode("utf-8", "replace")

    def records(self, smallest: int) -> Iterator[None]:
        """Reads a count and iterates that often; the file must then be at its end."""
        (count,) = self.take(_COUNT)
        if count * smallest > len(self.data) - self.at:
            raise UserError(
                f"{self.path} is truncated: {count} records do not fit in {len(self.data)} bytes. {_REMEDY}"
            )
        for _ in range(count):
            yield
        if self.at != len(self.data):
            extra = len(self.data) - self.at
            raise UserError(f"{self.path} is damaged: {extra} bytes follow its {count} records. {_REMEDY}")


_COUNT = struct.Struct("<Q")
_CAMERA = struct.Struct("<IiQQ")
_IMAGE = struct.Struct("<I7dI")
_POINT = struct.Struct("<q3d3BdQ")
_OBSERVATION = np.dtype([("xy", "<f8", 2), ("point_id", "<i8")])


def _cameras_bin(path: Path) -> dict[int, Camera]:
    cursor, cameras = _Cursor(path), {}
    for _ in cursor.records(_CAMERA.size):
        camera_id, model_id, width, height = cursor.take(_CAMERA)
        model = _model_names().get(model_id, f"number {model_id}")
        params = cursor.take(struct.Struct(f"<{parameter_counts().get(model, 0)}d"))
        cameras[camera_id] = _camera(model, width, height, params, f"{path}, camera {camera_id}")
    return cameras


def _images_bin(path: Path) -> list[ColmapImage]:
    cursor, images = _Cursor(path), []
    for _ in cursor.records(_IMAGE.size + 9):
        _, *pose, camera_id = cursor.take(_IMAGE)
        name = cursor.text()
        (count,) = cursor.take(_COUNT)
        begin = cursor.span(count * _OBSERVATION.itemsize)
        observed = np.frombuffer(cursor.data, _OBSERVATION, count, begin)
        seen = _observed(observed["point_id"], observed["xy"])
        images.append(ColmapImage(name, camera_id, tuple(pose[:4]), tuple(pose[4:]), *seen))
    return images


def _points_bin(path: Path) -> tuple[list, list, list, list]:
    cursor, ids, positions, colours, errors = _Cursor(path), [], [], [], []
    for _ in cursor.records(_POINT.size):
        point_id, x, y, z, r, g, b, error, track_length = cursor.take(_POINT)
        cursor.span(track_length * 8)
        ids.append(point_id)
        positions.append((x, y, z))
        colours.append((r, g, b))
        errors.append(error)
    return ids, positions, colours, errors


def _observed(point_ids: np.ndarray, xy: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All seen points, and some of them, evenly chosen, with their keypoints."""
    seen = np.flatnonzero(point_ids != _NO_POINT)
    kept = seen[:: len(seen) // _KEYPOINTS_KEPT + 1]
    return np.unique(point_ids[seen]).astype(np.int64), point_ids[kept].astype(np.int64), np.array(xy[kept], np.float64)


# --- text -----------------------------------------------------------------------------------------------------------


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """Every line, stripped, with its position; comments are skipped, empty lines are kept."""
    with opened_text(path, "model file") as handle:
        for number, line in enumerate(handle, 1):
            if not line.startswith("#"):
                yield f"{path}, line {number}", line.strip()


def _compare_count(path: Path, num_read: int) -> None:
    """COLMAP writes the number of records above them: `# Number of images: 5, mean observations ...`.

    A comment decides nothing: it is outdated if records were removed by hand. But it may be the only sign of a
    truncated file, so it is logged.
    """
    with opened_text(path, "model file") as handle:
        comments = takewhile(lambda line: line.startswith("#"), handle)
        promised = next((match for match in map(_PROMISE.match, comments) if match), None)
    if promised and int(promised[1]) != num_read:
        log.warning(
            "%s holds %d records, which are read; a comment in it says %s. Was it edited, or is it truncated?",
            path,
            num_read,
            promised[1],
        )


_PROMISE = re.compile(r"#\s*Number of (?:cameras|images|points):\s*([0-9]{1,18})\b")


def _numbers(words: list[str], kind: type, where: str) -> list:
    try:
        return [kind(word) for word in words]
    except (ValueError, OverflowError) as error:
        raise UserError(f"{where}: {error}. {_REMEDY}") from error


def _words(line: str, least: int, where: str, most_splits: int = -1) -> list[str]:
    words = line.split(maxsplit=most_splits)
    if len(words) < least:
        raise UserError(f"{where}: {len(words)} values where at least {least} belong; is the file truncated? {_REMEDY}")
    return words


def _cameras_txt(path: Path) -> dict[int, Camera]:
    cameras = {}
    for where, line in _lines(path):
        if line:
            (
                camera_id,
                model,
                *size,
            ) = _words(line, 4, where)[:4]
            camera_id, width, height = _numbers([camera_id, *size], int, where)
            params = tuple(_numbers(line.split()[4:], float, where))
            cameras[camera_id] = _camera(model, width, height, params, where)
    _compare_count(path, len(cameras))
    return cameras


def _images_txt(path: Path) -> list[ColmapImage]:
    images, lines = [], _lines(path)
    for where, line in lines:
        if not line:
            continue
        words = _words(line, 10, where, 9)
        pose = _numbers(words[1:8], float, where)
        (camera_id,) = _numbers([words[8]], int, where)
        where, observations = next(lines, (where, ""))  # an empty line at the very end is easily lost
        values = observations.split()
        if len(values) % 3:
            raise UserError(
                f"{where}: observations come in threes, but here are {len(values)} values. Behind each image "
                f"stands a line of them, which may be empty. {_REMEDY}"
            )
        observed = np.array(_numbers(values[2::3], np.int64, where), np.int64)
        xy = np.array([_numbers(values[first::3], float, where) for first in (0, 1)]).T
        images.append(ColmapImage(words[9], camera_id, tuple(pose[:4]), tuple(pose[4:]), *_observed(observed, xy)))
    _compare_count(path, len(images))
    return images


def _points_txt(path: Path) -> tuple[list, list, list, list]:
    ids, positions, colours, errors = [], [], [], []
    for where, line in _lines(path):
        if line:
            words = _words(line, 8, where)
            ids += _numbers(words[:1], np.int64, where)
            positions.append(_numbers(words[1:4], float, where))
            colours.append([min(max(c, 0), 255) for c in _numbers(words[4:7], int, where)])
            errors += _numbers(words[7:8], float, where)
    _compare_count(path, len(ids))
    return ids, positions, colours, errors


_READERS = {"bin": (_cameras_bin, _images_bin, _points_bin), "txt": (_cameras_txt, _images_txt, _points_txt)}
