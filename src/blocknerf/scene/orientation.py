"""EXIF orientation: one rule for pictures, poses, masks and depth maps.

A camera stores pixels as they come from its sensor, and EXIF says how they are turned for a person. Poses belong either
to the pixels as stored (COLMAP) or to the picture held upright (OpenCV and what is built on it). The camera's size
decides. If it is ambiguous (square or upside-down pictures), the other pictures of the capture decide; otherwise pixels
are read as stored. Masks and depth maps are turned to the picture by their size.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import ExifTags, Image

EXIF_ERRORS = (OSError, ValueError, SyntaxError, TypeError, KeyError, IndexError, ZeroDivisionError, OverflowError)
_FIRST_SIDEWAYS = 5
_BACK = {6: 8, 8: 6}
_DOWN = {1: (0, 1), 2: (0, 1), 3: (0, -1), 4: (0, -1), 5: (1, 0), 6: (1, 0), 7: (-1, 0), 8: (-1, 0)}
"""By EXIF orientation: which way in the stored picture (x right, y down) a person's down lies."""


@dataclass(frozen=True, slots=True)
class Orientation:
    """The orientation of a file's pixels (`exif`, 1 to 8 as in EXIF), and whether they are turned upright first."""

    exif: int = 1
    is_turned: bool = False

    def picture(self, pixels: np.ndarray) -> np.ndarray:
        """The picture [h, w, ...] that the camera belongs to, from the stored one."""
        return turned(pixels, self.exif) if self.is_turned else pixels

    def stored(self, pixels: np.ndarray) -> np.ndarray:
        """The way back."""
        return turned(pixels, _BACK.get(self.exif, self.exif)) if self.is_turned else pixels

    def picture_size(self, stored_size: tuple[int, int]) -> tuple[int, int]:
        """(width, height) of the picture that the camera belongs to."""
        return _upright(stored_size, self.exif) if self.is_turned else stored_size

    def fits(self, stored_size: tuple[int, int], picture_size: tuple[int, int]) -> bool:
        """Whether a mask or depth map of this size can belong to the picture, as stored or upright."""
        sizes = (stored_size, _upright(stored_size, self.exif))
        return any(same_proportions(size, picture_size) for size in sizes)

    def fitted(self, pixels: np.ndarray, picture_size: tuple[int, int]) -> np.ndarray:
        """A mask or depth map [h, w], turned like the picture of that (width, height).

        It may belong to the stored pixels or to the upright picture. If its size is ambiguous, it belongs to the stored
        pixels.
        """
        size = (pixels.shape[1], pixels.shape[0])
        if self.is_turned:
            stored_size, upright_size = _upright(picture_size, self.exif), picture_size
        else:
            stored_size, upright_size = picture_size, _upright(picture_size, self.exif)
        is_upright = not same_proportions(size, stored_size) and same_proportions(size, upright_size)
        if is_upright == self.is_turned:
            return pixels
        return turned(pixels, self.exif if self.is_turned else _BACK.get(self.exif, self.exif))

    def upright_pose(self, world_from_cam: np.ndarray) -> np.ndarray:
        """The pose [3, 4] turned about the optical axis: x and y of the camera become a person's right and down."""
        if self.is_turned or self.exif == 1:
            return world_from_cam
        down, forward = world_from_cam[:, :2] @ np.array(_DOWN[self.exif]), world_from_cam[:, 2]
        return np.column_stack([np.cross(down, forward), down, world_from_cam[:, 2:]])

    def upright_size(self, picture_size: tuple[int, int]) -> tuple[int, int]:
        """(width, height) of the picture held upright."""
        return picture_size if self.is_turned else _upright(picture_size, self.exif)


AS_STORED = Orientation()


def exif_of(image: Image.Image) -> Image.Exif:
    """Metadata before the pixels. Metadata after the pixels of a PNG is ignored: reading it would decode them all."""
    if image.format == "PNG" and not {"exif", "Raw profile type exif"} & image.info.keys():
        return Image.Exif()
    return image.getexif()


def exif_orientation(image: Image.Image) -> int:
    """1 to 8; 1, upright, if EXIF has nothing or nonsense."""
    try:
        value = exif_of(image).get(ExifTags.Base.Orientation, 1)
    except EXIF_ERRORS:
        return 1
    return value if isinstance(value, int) and value in _DOWN else 1


def turned(pixels: np.ndarray, exif: int) -> np.ndarray:
    """Stored pixels [h, w, ...] as a person sees them."""
    if exif in (2, 3, 7, 8):
        pixels = pixels[:, ::-1]
    if exif in (3, 4, 6, 7):
        pixels = pixels[::-1]
    return pixels.swapaxes(0, 1) if exif >= _FIRST_SIDEWAYS else pixels


def orientations(
    exifs: Sequence[int], stored_sizes: Sequence[tuple[int, int]], camera_sizes: Sequence[tuple[int, int] | None]
) -> list[Orientation]:
    """The orientation of each picture of a capture. Sizes are (width, height); None: the format has none."""
    by_sizes = [_is_upright_by_size(*one) for one in zip(exifs, stored_sizes, camera_sizes, strict=True)]
    others_are_turned = True in by_sizes and False not in by_sizes
    return [
        Orientation(exif, is_turned=exif != 1 and (others_are_turned if by_size is None else by_size))
        for exif, by_size in zip(exifs, by_sizes, strict=True)
    ]


def is_decided_by_size(exif: int, stored_size: tuple[int, int], camera_size: tuple[int, int] | None) -> bool:
    """Whether sizes show if the camera belongs to the stored or to the upright picture, or these are the same."""
    return exif == 1 or _is_upright_by_size(exif, stored_size, camera_size) is not None


def _is_upright_by_size(exif: int, stored_size: tuple[int, int], camera_size: tuple[int, int] | None) -> bool | None:
    """Whether the camera belongs to the upright picture, if that differs and sizes show it."""
    if exif < _FIRST_SIDEWAYS or camera_size is None or min(camera_size) <= 0:
        return None
    upright_size = _upright(stored_size, exif)
    for same in (tuple.__eq__, same_proportions):
        is_stored, is_upright = same(stored_size, camera_size), same(upright_size, camera_size)
        if is_stored != is_upright:
            return bool(is_upright)
        if is_stored:
            return None
    return None


def _upright(size: tuple[int, int], exif: int) -> tuple[int, int]:
    return (size[1], size[0]) if exif >= _FIRST_SIDEWAYS else size


def same_proportions(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether one becomes the other by scaling, up to a pixel."""
    (width, height), (w, h) = one, other
    return min(abs(width * h / w - height), abs(height * w / h - width)) <= 1
