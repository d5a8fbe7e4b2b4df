"""Where photographs lie, by name or by folder; names that the scene gives them; text files of numbers."""

import posixpath
from pathlib import Path

from blocknerf.core.errors import UserError

ENDINGS = (".png", ".jpg", ".jpeg", ".PNG", ".JPG", ".JPEG")


def photographs_of(folder: Path) -> list[Path]:
    """Photographs in a folder, by name. Raises UserError where the folder is missing or has none."""
    paths = sorted(path for path in folder.glob("*") if path.suffix in ENDINGS)
    if not paths:
        raise UserError(f"{folder} holds no photographs ({', '.join(ENDINGS[:3])}).")
    return paths


def photograph_in(folder: Path, stem: str) -> Path:
    """The photograph `stem`, whatever its ending; a path that does not exist where there is none."""
    found = (folder / f"{stem}{ending}" for ending in ENDINGS)
    return next((path for path in found if path.is_file()), folder / f"{stem}.jpg")


def named_photograph(data_root: Path, name: str) -> Path:
    """The photograph of that name in `images`, or else relative to the capture; its place in `images` if in neither."""
    name = name.replace("\\", "/")
    in_images, beside = data_root / "images" / name, data_root / name
    return beside if beside.is_file() and not in_images.is_file() else in_images


def name_in(data_root: Path, path: Path) -> str:
    """The path relative to the image folder: `images/` in front is left away, as COLMAP's names do."""
    relative = posixpath.relpath(path.as_posix(), data_root.as_posix())
    return relative.removeprefix("images/")


def rows_of_numbers(path: Path, columns: int) -> list[list[float]]:
    """A text file of numbers, `columns` on each line; labels in front ("P0:") are passed over.

    Raises UserError that names the line.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as text: {error}.") from error
    rows = []
    for number, line in enumerate(lines, 1):
        words = line.split(":", 1)[-1].split()
        if not words:
            continue
        try:
            rows.append([float(word) for word in words])
        except ValueError as error:
            raise UserError(f"{path}, line {number}: there stands something that is no number ({error}).") from error
        if len(rows[-1]) != columns:
            raise UserError(f"{path}, line {number}: a line has {columns} numbers, and this one {len(rows[-1])}.")
    return rows
