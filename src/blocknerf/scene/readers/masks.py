"""Which mask files belong to an image. A pixel that any of them hides is hidden."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from blocknerf.core.names import is_contained, owned
from blocknerf.core.reading import is_file
from blocknerf.scene.readers.found_files import WHOLE_NAME, FileFinder, Found, Way

MASK_FOLDER = "masks"
TRANSIENT_FOLDER = f"{MASK_FOLDER}/transient"
"""The folder that `blocknerf masks` writes. It is separate, so that no mask made by hand is ever changed."""
_NO_NEWS = frozenset({Way.NO_ENDING, Way.ENDING, Way.CHOSEN})
"""Ways in which a mask's name may differ from its photograph's without a message."""


def mask_paths(
    root: Path,
    name: str,
    named: Path | None,
    listed_name: str | None = None,
    photograph: Path | None = None,
    alike: Mapping[str, Found] | None = None,
) -> tuple[Path, ...]:
    """The mask that the capture names (or else one in `masks/` under the image's name), then the one made for it.

    In `masks/` they may also have `listed_name`, the capture's, if that stays inside, or a name that is `alike` (see
    `masks_alike`). The photograph itself is never a mask found by name.
    """
    names = [one for one in dict.fromkeys((name, listed_name)) if one is not None and is_contained(one)]
    made = _first([root / TRANSIENT_FOLDER / f"{one}.png" for one in names], photograph)
    usual = [place for one in names for place in _places(root / MASK_FOLDER, one)]
    nearly = [alike[one].path for one in names if one in alike] if alike is not None else []
    chosen = named if named is not None else _first([*usual, *nearly], photograph)
    return tuple(path for path in (chosen, made) if path is not None)


def masks_alike(root: Path, names: Iterable[str], folder: str = MASK_FOLDER) -> dict[str, Found]:
    """Masks in a folder of `root` with nearly the names of images (see `Way`), for images that have no exact one."""
    finder = FileFinder(root)
    if not finder.has_folder(folder):
        return {}
    missing = [name for name in names if is_contained(name) and exact_mask(root / folder, name) is None]
    found = finder.find(missing, (folder,), usual=_NO_NEWS, shortest_tail=WHOLE_NAME)
    return {name: file for name, file in found.items() if file.problem is not None or is_file(file.path)}


def exact_mask(folder: Path, name: str) -> Path | None:
    """Paths of the mask of image `name`: with .png appended, or in place of its ending."""
    return _first(_places(folder, name), None)


def _places(folder: Path, name: str) -> tuple[Path, Path]:
    place = folder / name
    return place.with_name(f"{place.name}.png"), place.with_suffix(".png")


def transient_mask(root: Path, name: str) -> Path:
    """Path of the mask of moving things of the image `name`, whether it exists or not.

    Raises UserError if a link leads out of the folder of masks.
    """
    return owned(root / MASK_FOLDER, f"{Path(TRANSIENT_FOLDER).name}/{name}.png")


def _first(places: Sequence[Path], photograph: Path | None) -> Path | None:
    found = (place for place in places if is_file(place))
    return next((place for place in found if photograph is None or not place.samefile(photograph)), None)
