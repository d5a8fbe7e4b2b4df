"""Which mask files belong to an image. All of them hide: a pixel that any of them leaves out is left out."""

from collections.abc import Sequence
from pathlib import Path

from blocknerf.core.names import is_contained, owned
from blocknerf.core.reading import is_file

MASK_FOLDER = "masks"
TRANSIENT_FOLDER = f"{MASK_FOLDER}/transient"
"""What `blocknerf masks` writes. It has a folder of its own, so that no mask made by hand is ever touched."""


def mask_paths(
    root: Path, name: str, named: Path | None, listed_name: str | None = None, photograph: Path | None = None
) -> tuple[Path, ...]:
    """The mask that the capture names (or else one in `masks/` under the image's name), then the one made for it.

    In `masks/` they may also go by `listed_name`, the capture's, where that stays in there. The photograph itself is
    no mask that is found by name.
    """
    names = [one for one in dict.fromkeys((name, listed_name)) if one is not None and is_contained(one)]
    made = _first([root / TRANSIENT_FOLDER / f"{one}.png" for one in names], photograph)
    folder = root / MASK_FOLDER
    usual = [place for one in names for place in (folder / f"{one}.png", (folder / one).with_suffix(".png"))]
    own = named if named is not None else _first(usual, photograph)
    return tuple(path for path in (own, made) if path is not None)


def transient_mask(root: Path, name: str) -> Path:
    """Where the mask of moving things of the image `name` lies, whether it is made or not.

    Raises UserError where a link leads from there out of the folder of masks.
    """
    return owned(root / MASK_FOLDER, f"{Path(TRANSIENT_FOLDER).name}/{name}.png")


def _first(places: Sequence[Path], photograph: Path | None) -> Path | None:
    found = (place for place in places if is_file(place))
    return next((place for place in found if photograph is None or not place.samefile(photograph)), None)
