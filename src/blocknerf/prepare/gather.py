"""What lies in the source folder: photographs and videos, and where their masks are."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blocknerf.core.errors import UserError
from blocknerf.scene.readers.masks import MASK_FOLDER

PHOTOGRAPHS = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp")
VIDEOS = (".mp4", ".mov", ".m4v", ".mkv", ".avi", ".webm", ".mts", ".m2ts", ".mpg", ".mpeg", ".3gp")
_MOST_KINDS_NAMED = 4


@dataclass(frozen=True, slots=True)
class Sources:
    """Files by name. `root` is the folder that they have in common, and names are relative to it."""

    root: Path
    photographs: tuple[Path, ...]
    videos: tuple[Path, ...]
    mask_folder: Path | None

    def name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def stamp(self) -> list[list[Any]]:
        """Name, size and time of change of every file: by these a stage knows that nothing changed."""
        files = [*self.photographs, *self.videos, *mask_files(self.mask_folder)]
        return [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in files]


def find_sources(source: Path, out: Path, mask_folder: Path | None) -> Sources:
    """Photographs and videos in `source`, a folder with whatever folders in it, or one video.

    Hidden files, the folder `out`, and folders called masks are passed over. Masks are in `mask_folder`, or in a folder
    of the name masks in `source`. Raises UserError where there is nothing to use, or the folder of masks is missing.
    """
    if mask_folder is not None and not mask_folder.is_dir():
        raise UserError(f"There is no folder {mask_folder}. --masks wants a folder with one picture for each image.")
    if source.is_file():
        if source.suffix.lower() not in VIDEOS:
            raise UserError(f"{source} is no video that is known ({_list(VIDEOS)}). Give a folder, or one video.")
        return Sources(source.parent, (), (source,), mask_folder)
    if not source.is_dir():
        raise UserError(f"There is no folder or video {source}. Give a folder of photographs or videos, or one video.")
    files = _files(source, out)
    photographs = tuple(path for path in files if path.suffix.lower() in PHOTOGRAPHS)
    videos = tuple(path for path in files if path.suffix.lower() in VIDEOS)
    if not photographs and not videos:
        raise UserError(_nothing(source, files))
    used = [path.parent for path in (*photographs, *videos)]
    beside = source / MASK_FOLDER
    masks = mask_folder or (beside if beside.is_dir() else None)
    return Sources(Path(os.path.commonpath(used)), photographs, videos, masks)


def mask_files(folder: Path | None) -> list[Path]:
    return [] if folder is None else sorted(path for path in folder.rglob("*.png") if path.is_file())


def _files(source: Path, out: Path) -> Sequence[Path]:
    found = []
    for folder, folders, names in os.walk(source):
        here = Path(folder)
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and name != MASK_FOLDER and (here / name).resolve() != out.resolve()
        )
        found += [here / name for name in sorted(names) if not name.startswith(".")]
    return found


def _nothing(source: Path, files: Sequence[Path]) -> str:
    kinds = Counter(path.suffix.lower() or "no ending" for path in files)
    there = ", ".join(f"{count} x {kind}" for kind, count in kinds.most_common(_MOST_KINDS_NAMED)) or "nothing"
    return (
        f"{source} holds no photographs ({_list(PHOTOGRAPHS)}) and no videos ({_list(VIDEOS)}), but {there}. "
        "Give the folder of a capture; convert other kinds (.heic, raw files) to .jpg first, with their EXIF."
    )


def _list(endings: Sequence[str]) -> str:
    return " ".join(endings)
