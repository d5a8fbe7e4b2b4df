"""One capture at several sizes, as in data sets: images, images_2, images_4. The largest is used."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float32
from PIL import Image, ImageOps

from blocknerf.core.logging import log
from blocknerf.prepare.shots import size_upright
from blocknerf.scene.photographs import DECODE_ERRORS, opened_picture

_LOOKED_AT = 3
_SIDE_PX = 8
_MOST_LEVELS, _MOST_OF_CONTRAST = 6.0, 0.2
"""Maximum difference of two thumbnails of one photograph: mean of 255 levels, and as a share of their deviation."""


@dataclass(frozen=True, slots=True)
class _Shelf:
    """Photographs of one folder and ending, by name without it. `pixels` are those of the largest looked at."""

    folder: Path
    photographs: dict[str, Path]
    pixels: int


def at_their_largest(photographs: Sequence[Path]) -> tuple[Path, ...]:
    """Without those that exist in another folder with the same names at a larger size, or beside it in another format.

    Names alone decide nothing: a few pictures of each folder are compared. Logs what is skipped.
    """
    looks, taken, left_out = _Looks(), list[_Shelf](), set[Path]()
    for shelf in sorted(_shelves(photographs, looks), key=lambda shelf: (-shelf.pixels, shelf.folder)):
        larger = next((one for one in taken if _holds_again(looks, one, shelf)), None)
        if larger is None:
            taken.append(shelf)
            continue
        again = {path for stem, path in shelf.photographs.items() if stem in larger.photographs}
        left_out |= again
        if larger.folder == shelf.folder:
            log.warning("%d photographs in %s exist in two formats; one of each is used.", len(again), shelf.folder)
        else:
            log.warning(
                "%d photographs in %s are skipped: %s has them larger. Give that folder alone to have them.",
                len(again),
                shelf.folder,
                larger.folder,
            )
    return tuple(path for path in photographs if path not in left_out)


def _shelves(photographs: Sequence[Path], looks: "_Looks") -> Iterator[_Shelf]:
    found: dict[tuple[Path, str], dict[str, Path]] = {}
    for path in photographs:
        found.setdefault((path.parent, path.suffix.lower()), {})[path.stem] = path
    for (folder, _), named in found.items():
        sizes = [looks.size(path) for path in _spread_sample(list(named.values()))]
        yield _Shelf(folder, named, max(width * height for width, height in sizes))


def _spread_sample(items: list) -> list:
    """A few, spread over all."""
    return [items[round(place)] for place in np.linspace(0, len(items) - 1, min(_LOOKED_AT, len(items)))]


def _holds_again(looks: "_Looks", larger: _Shelf, shelf: _Shelf) -> bool:
    """Whether most of the compared pictures are in `larger`, and none is another picture of the same name.

    Pictures of equal size in another folder may be from a second camera and never count as the same.
    """
    if larger.pixels <= shelf.pixels and larger.folder != shelf.folder:
        return False
    looked_at = _spread_sample(list(shelf.photographs))
    shared = [stem for stem in looked_at if stem in larger.photographs]
    return 2 * len(shared) > len(looked_at) and all(
        looks.are_same(larger.photographs[stem], shelf.photographs[stem]) for stem in shared
    )


@dataclass(frozen=True, slots=True)
class _Looks:
    """Photographs as shown, each opened once. Unreadable files are reported later, when all are read."""

    sizes: dict[Path, tuple[int, int]] = field(default_factory=dict)
    thumbnails: dict[Path, Float32[np.ndarray, "8 8"] | None] = field(default_factory=dict)

    def size(self, path: Path) -> tuple[int, int]:
        """(width, height); zeros for what is no picture."""
        if path not in self.sizes:
            try:
                with opened_picture(path) as image:
                    self.sizes[path] = size_upright(image)
            except DECODE_ERRORS:
                self.sizes[path] = (0, 0)
        return self.sizes[path]

    def are_same(self, one: Path, other: Path) -> bool:
        (width, height), (w, h) = self.size(one), self.size(other)
        if not (width and w) or abs(width * h - height * w) > max(width, height):
            return False
        thumbnails = self.thumbnail(one), self.thumbnail(other)
        if thumbnails[0] is None or thumbnails[1] is None:
            return False
        difference = float(np.abs(thumbnails[0] - thumbnails[1]).mean())
        return difference <= min(_MOST_LEVELS, _MOST_OF_CONTRAST * float(thumbnails[0].std()))

    def thumbnail(self, path: Path) -> Float32[np.ndarray, "8 8"] | None:
        if path not in self.thumbnails:
            try:
                with opened_picture(path) as image:
                    image.draft("RGB", (16 * _SIDE_PX, 16 * _SIDE_PX))
                    upright = ImageOps.exif_transpose(image).convert("L")
                small = upright.resize((_SIDE_PX, _SIDE_PX), Image.Resampling.BOX)
                self.thumbnails[path] = np.asarray(small, np.float32)
            except DECODE_ERRORS:
                self.thumbnails[path] = None
        return self.thumbnails[path]
