"""bundle.out of Bundler (Snavely et al. 2006), with list.txt, which names its photographs line by line.

https://www.cs.cornell.edu/~snavely/bundler/bundler-v0.4-manual.html: P = R X + t, p = -P / P_z, and the pixel, counted
from the middle of the photograph to the right and up, is f (1 + k1 |p|^2 + k2 |p|^4) p. So cameras look along -z with y
up, and their lens is COLMAP's RADIAL. Positions keep the file's unit.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from blocknerf.core.camera import Camera
from blocknerf.core.errors import UserError
from blocknerf.core.reading import opened_text, read_text
from blocknerf.geometry.se3 import OPENCV_FROM_OPENGL
from blocknerf.scene.readers.candidates import Candidate, Capture
from blocknerf.scene.readers.found_files import IMAGE_FOLDER, FileFinder, Found, name_in_images

BUNDLE, LIST = "bundle.out", "list.txt"
_FIRST_LINE = "# Bundle file v0.3"
_NUMBERS_OF_A_CAMERA = 15
_FOCAL_OF_EXIF = re.compile(r"\s+0\s+[0-9.eE+-]+\s*$")


def finds_bundler(data_root: Path) -> bool:
    return _bundle_of(data_root).is_file()


def read_bundler(data_root: Path) -> Capture:
    """Raises UserError if list.txt is missing or has another length, or that names the line at which bundle.out is
    damaged."""
    path = _bundle_of(data_root)
    photographs = _photographs(data_root, path)
    with opened_text(path, "bundle") as lines:
        if lines.readline().strip() != _FIRST_LINE:
            raise UserError(f"{path} does not begin with {_FIRST_LINE!r}; no other version of Bundler's file is read.")
        bundle = _read_bundle(_Numbers(path, lines))
    if len(bundle.cameras) != len(photographs):
        raise UserError(
            f"{path} has {len(bundle.cameras)} cameras, but its {LIST} names {len(photographs)} photographs; the lines "
            "belong to each other. Put the list beside it that it was made from."
        )
    seen = _seen(bundle)
    candidates = [
        _candidate(photograph, camera, rows)
        for photograph, camera, rows in zip(photographs, bundle.cameras, seen, strict=True)
    ]
    return Capture(candidates, bundle.points_world, bundle.points_rgb)


@dataclass(frozen=True, slots=True)
class _Bundle:
    cameras: np.ndarray  # [cameras, 15]: f k1 k2, R row by row, t
    points_world: np.ndarray  # [P, 3]
    points_rgb: np.ndarray  # [P, 3] uint8
    sights: np.ndarray  # [n, 2] int64: a camera and the point that it sees


class _Numbers:
    """The numbers of a file in sequence, regardless of lines; it keeps the line number for messages."""

    def __init__(self, path: Path, lines: Iterable[str]) -> None:
        self._path, self._lines = path, enumerate(lines, 2)
        self._words: Iterator[str] = iter(())
        self._number = 1

    def take(self, count: int, of_what: str) -> list[float]:
        """The next numbers. Raises UserError that names the line, at a word that is not a number, and at the end."""
        return [self._next(of_what) for _ in range(count)]

    def counts(self, count: int, of_what: str) -> list[int]:
        """`take` for whole numbers that are not negative."""
        numbers = self.take(count, of_what)
        if not all(0 <= number < 2**53 and number.is_integer() for number in numbers):
            raise UserError(f"{self._path}, line {self._number}: {of_what} must be whole numbers, not {numbers}.")
        return [int(number) for number in numbers]

    def _next(self, of_what: str) -> float:
        while (word := next(self._words, None)) is None:
            self._number, line = next(self._lines, (self._number, ""))
            if not line:
                raise UserError(f"{self._path} is truncated: it ends in {of_what}. Copy it again.")
            self._words = iter(line.split())
        try:
            return float(word)
        except ValueError as error:
            raise UserError(f"{self._path}, line {self._number}: {word!r} is not a number, in {of_what}.") from error


def _read_bundle(numbers: _Numbers) -> _Bundle:
    """Points that are not finite are skipped."""
    num_cameras, num_points = numbers.counts(2, "the numbers of cameras and points")
    cameras = [numbers.take(_NUMBERS_OF_A_CAMERA, f"camera {number}") for number in range(num_cameras)]
    places, colours, sights = [], [], []
    for number in range(num_points):
        place = numbers.take(3, f"point {number}")
        colour = numbers.counts(3, f"the colour of point {number}")
        (views,) = numbers.counts(1, f"the number of views of point {number}")
        seen_by = [_view(numbers, f"the views of point {number}") for _ in range(views)]
        if np.isfinite(place).all():
            sights += [(camera, len(places)) for camera in seen_by]
            places.append(place)
            colours.append([min(value, 255) for value in colour])
    return _Bundle(
        np.array(cameras, np.float64).reshape(-1, _NUMBERS_OF_A_CAMERA),
        np.array(places, np.float64).reshape(-1, 3),
        np.array(colours, np.uint8).reshape(-1, 3),
        np.array(sights, np.int64).reshape(-1, 2),
    )


def _view(numbers: _Numbers, of_what: str) -> int:
    """The camera; the feature's number and place are not needed."""
    (camera,) = numbers.counts(1, of_what)
    numbers.take(3, of_what)
    return camera


def _seen(bundle: _Bundle) -> list[np.ndarray]:
    """Rows of the points that each camera sees, ascending; a missing camera sees nothing."""
    pairs = np.unique(bundle.sights, axis=0)
    begins = np.searchsorted(pairs[:, 0], np.arange(len(bundle.cameras) + 1))
    return [pairs[first:end, 1] for first, end in zip(begins, begins[1:], strict=False)]


def _candidate(photograph: Found, numbers: np.ndarray, point_rows: np.ndarray) -> Candidate:
    focal_px, k1, k2 = map(float, numbers[:3])
    rotation, translation = numbers[3:12].reshape(3, 3), numbers[12:]

    def camera(width: int, height: int) -> Camera:
        return Camera("RADIAL", width, height, (focal_px, width / 2, height / 2, k1, k2))

    with np.errstate(invalid="ignore", over="ignore"):
        center = -rotation.T @ translation
    pose = np.concatenate([rotation.T, center[:, None]], axis=1) * OPENCV_FROM_OPENGL
    problem = "Bundler could not place it (its focal length is 0)" if focal_px == 0 else photograph.problem
    name, key = name_in_images(photograph.name), f"{focal_px!r} {k1!r} {k2!r}"
    return Candidate(name, photograph.path, camera, key, pose, point_rows=point_rows, problem=problem)


def _bundle_of(data_root: Path) -> Path:
    """Bundler writes into a separate folder; other programs put the file beside the list."""
    separate = data_root / "bundle" / BUNDLE
    return separate if separate.is_file() else data_root / BUNDLE


def _photographs(data_root: Path, bundle: Path) -> list[Found]:
    """Relative to the folder of the capture, or to `images` in it; a line may end in "0 FOCAL"."""
    path = next((path for path in (data_root / LIST, bundle.parent / LIST) if path.is_file()), None)
    if path is None:
        raise UserError(f"There is no {data_root / LIST}, which says whose cameras {bundle} holds.")
    lines = read_text(path, "list of photographs").splitlines()
    names = [_FOCAL_OF_EXIF.sub("", line).strip() for line in lines if line.strip()]
    found = FileFinder(data_root).find(names, folders=(IMAGE_FOLDER, ""))
    return [found[name] for name in names]
