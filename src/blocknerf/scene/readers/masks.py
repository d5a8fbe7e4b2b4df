"""Which mask files belong to an image. All of them hide: a pixel that any of them leaves out is left out."""

from pathlib import Path

MASK_FOLDER = "masks"
TRANSIENT_FOLDER = f"{MASK_FOLDER}/transient"
"""What `blocknerf masks` writes. It has a folder of its own, so that no mask made by hand is ever touched."""


def mask_paths(root: Path, name: str, named: Path | None) -> tuple[Path, ...]:
    """The mask that the capture names (or else one in `masks/` under the image's name), then the one made for it."""
    made = transient_mask(root, name)
    own = named if named is not None else _usual(root, name)
    return tuple(path for path in (own, made if made.is_file() else None) if path is not None)


def transient_mask(root: Path, name: str) -> Path:
    """Where the mask of moving things of the image `name` lies, whether it is made or not."""
    return root / TRANSIENT_FOLDER / f"{name}.png"


def _usual(root: Path, name: str) -> Path | None:
    folder = root / MASK_FOLDER
    places = (folder / f"{name}.png", (folder / name).with_suffix(".png"))
    return next((place for place in places if place.is_file()), None)
