"""The content of the source folder: photographs and videos, and the place of their masks."""

import itertools
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from blocknerf.core.errors import UserError
from blocknerf.core.logging import log
from blocknerf.core.names import portable_name
from blocknerf.prepare.kinds import HEIC_ENDINGS, HOW_HEIC_IS_READ, reads_heic
from blocknerf.prepare.sizes import at_their_largest
from blocknerf.scene.photographs import DYNAMIC_MASK, dynamic_mask
from blocknerf.scene.readers.found_files import ENDINGS
from blocknerf.scene.readers.masks import MASK_FOLDER

PHOTOGRAPHS = (
    ".jpg",
    ".jpeg",
    ".jpe",
    ".jfif",
    ".mpo",
    ".png",
    ".apng",
    ".tif",
    ".tiff",
    ".webp",
    ".avif",
    ".bmp",
    ".gif",
    ".jp2",
    ".ppm",
    ".pgm",
)
VIDEOS = (".mp4", ".mov", ".m4v", ".mkv", ".avi", ".webm", ".mts", ".m2ts", ".mpg", ".mpeg", ".3gp")
MARKER = "prepare.json"
"""The file by which `prepare` recognises a scene that it made."""
_MASK_FOLDERS = re.compile(r"masks?(_[0-9]+)?", re.IGNORECASE)
_MOST_KINDS_NAMED = 4


@dataclass(frozen=True, slots=True)
class Sources:
    """Files in order. `root` is their common folder; `names` are their different names in the scene."""

    root: Path
    photographs: tuple[Path, ...]
    videos: tuple[Path, ...]
    mask_folder: Path | None
    names: Mapping[Path, str]

    def stamp(self) -> list[list[Any]]:
        """Name, size and modification time of every file, by which a stage detects changes."""
        beside = [mask for path in self.photographs if (mask := dynamic_mask(path)).is_file()]
        files = [*self.photographs, *self.videos, *mask_files(self.mask_folder), *beside]
        return [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in files]


def find_sources(source: Path, out: Path, mask_folder: Path | None) -> Sources:
    """Photographs and videos in `source`, a folder of any depth, or one video.

    Hidden files, the folder `out`, other prepared scenes, folders called masks, masks_2, ... and smaller copies of the
    same capture are skipped. Masks are in `mask_folder`, or in a folder called masks or mask in `source`. Raises
    UserError if there is nothing to use, or the folder of masks is missing.
    """
    if mask_folder is not None and not mask_folder.is_dir():
        raise UserError(f"There is no folder {mask_folder}. --masks wants a folder with one picture for each image.")
    if source.is_file():
        if source.suffix.lower() not in VIDEOS:
            raise UserError(f"{source} is not a known kind of video ({_list(VIDEOS)}). Give a folder, or one video.")
        return Sources(source.parent, (), (source,), mask_folder, scene_names(source.parent, (source,)))
    if not source.is_dir():
        raise UserError(f"There is no folder or video {source}. Give a folder of photographs or videos, or one video.")
    files = _files(source, out)
    known = PHOTOGRAPHS + (HEIC_ENDINGS if reads_heic() else ())
    photographs = at_their_largest([path for path in files if path.suffix.lower() in known])
    videos = tuple(path for path in files if path.suffix.lower() in VIDEOS)
    if not photographs and not videos:
        raise UserError(_nothing(source, files))
    unread = sum(path.suffix.lower() in HEIC_ENDINGS for path in files)
    if unread and not reads_heic():
        log.warning("%d HEIC pictures in %s are skipped: %s.", unread, source, HOW_HEIC_IS_READ)
    used = [path.parent for path in (*photographs, *videos)]
    beside = (source / name for name in (MASK_FOLDER, "mask"))
    masks = mask_folder or next((folder for folder in beside if folder.is_dir()), None)
    root = Path(os.path.commonpath(used))
    return Sources(root, photographs, videos, masks, scene_names(root, (*photographs, *videos)))


def mask_files(folder: Path | None) -> list[Path]:
    found = [] if folder is None else [path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS]
    return sorted(path for path in found if path.is_file())


def _files(source: Path, out: Path) -> Sequence[Path]:
    found = []
    for folder, folders, names in os.walk(source):
        directory = Path(folder)
        folders[:] = [name for name in sorted(folders) if _is_walked(directory / name, out)]
        found += [directory / name for name in sorted(names) if not name.startswith((".", DYNAMIC_MASK))]
    gone = [path for path in found if not path.is_file()]
    if gone:
        log.warning("%d names in %s lead to no file, as %s, and are skipped.", len(gone), source, gone[0])
    return [path for path in found if path not in set(gone)]


def _is_walked(folder: Path, out: Path) -> bool:
    if folder.name.startswith(".") or _MASK_FOLDERS.fullmatch(folder.name) or folder.resolve() == out.resolve():
        return False
    if (folder / MARKER).is_file():
        log.warning("%s is a scene that `blocknerf prepare` made, and is skipped.", folder)
        return False
    return True


def scene_names(root: Path, paths: Sequence[Path]) -> dict[Path, str]:
    """Names in the scene, relative to `root`: see `portable_name`."""
    clean = {path: portable_name(path.relative_to(root).as_posix().replace("\\", "_")) for path in paths}
    names = {path: name for path, name in clean.items() if name == path.relative_to(root).as_posix()}
    taken = set(names.values())
    for path in (path for path in paths if path not in names):
        names[path] = free_name(clean[path], taken)
        taken.add(names[path])
        log.warning("%a is called %s in the scene: not every system can hold its name.", str(path), names[path])
    return names


def free_name(name: str, taken: Set[str]) -> str:
    """The name, or the first of name_2, name_3, ... (before the ending) that is not taken."""
    path = PurePosixPath(name)
    others = (path.with_stem(f"{path.stem}_{number}").as_posix() for number in itertools.count(2))
    return next(other for other in itertools.chain((name,), others) if other not in taken)


def _nothing(source: Path, files: Sequence[Path]) -> str:
    kinds = Counter(path.suffix.lower() or "no ending" for path in files)
    content = ", ".join(f"{count} x {kind}" for kind, count in kinds.most_common(_MOST_KINDS_NAMED)) or "nothing"
    return (
        f"{source} holds no photographs ({_list(PHOTOGRAPHS)}) and no videos ({_list(VIDEOS)}), but {content}. "
        "Give the folder of a capture; convert raw files to .jpg first, with their EXIF. "
        f"Of HEIC: {HOW_HEIC_IS_READ}."
    )


def _list(endings: Sequence[str]) -> str:
    return " ".join(endings)
