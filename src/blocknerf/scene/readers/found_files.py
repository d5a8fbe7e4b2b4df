"""Finds the files of a capture, even if they were renamed, and gives them names in the scene.

Captures are often moved, unpacked, scaled down or renamed. `FileFinder` looks for the exact name first, and then for
what it may have become (see `Way`).
"""

import os
import posixpath
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import TypeVar

from blocknerf.core.errors import UserError
from blocknerf.core.logging import log
from blocknerf.core.reading import decoded, read_bytes
from blocknerf.scene.photographs import DYNAMIC_MASK

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")
"""Endings of photographs and masks in lower case; the preferred first, for names without an ending."""
DEPTH_ENDINGS = (".npy", ".png", ".tif", ".tiff")
IMAGE_FOLDER = "images"

_FAMILIES = ({".jpg", ".jpeg"}, {".tif", ".tiff"})
_SCALED = re.compile(r"(images|masks|depths)(?:_([0-9]{1,4}))?")
"""`images` and its smaller copies `images_2`, `images_4`, ...: the names that LLFF and nerfstudio give them."""
_MOST_FOLDERS = 16
"""Maximum number of folders that a folder in a name may match."""
_LONGEST_TAIL = 32
WHOLE_NAME = _LONGEST_TAIL
"""As `shortest_tail`: no folder in front may be left away."""
_MOST_CHARACTERS = 80
_MOST_WAYS = 2
Key = TypeVar("Key")


class Way(Enum):
    """How a found file differs from the requested name. The value is its name in the log."""

    UNICODE = "another Unicode form"
    CASE = "other capital letters"
    NO_ENDING = "an ending where the name has none"
    ENDING = "another ending"
    CHOSEN = "the first of several endings"
    SCALED = "a scaled copy of the folder"
    TAIL = "without the folders in front"


_COSTS = {Way.UNICODE: 1, Way.CASE: 2, Way.CHOSEN: 0, Way.NO_ENDING: 0, Way.ENDING: 4, Way.TAIL: 0, Way.SCALED: 100}


@dataclass(frozen=True, slots=True)
class Found:
    """A file, or where it should be. `name` is its path below the capture, with `images` in place of a scaled copy;
    `problem` is the reason why an existing file is not used."""

    path: Path
    name: str
    ways: frozenset[Way] = frozenset()
    problem: str | None = None


class FileFinder:
    """Finds files below one folder. Each folder is listed once, when it is first needed."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folders: dict[tuple[str, ...], _Folder] = {}

    def find(
        self,
        names: Iterable[str],
        folders: Sequence[str] = ("", IMAGE_FOLDER),
        endings: Sequence[str] = ENDINGS,
        usual: frozenset[Way] = frozenset({Way.NO_ENDING}),
        shortest_tail: int = 1,
    ) -> dict[str, Found]:
        """The file of each name; names may be relative to one of `folders`, the likeliest first.

        A file at its exact name is used. Otherwise the longest tail of the name that leads to a file counts, with the
        possible changes of names (`Way`). Two names that lead to one file have a problem, and so has a name that leads
        to two files, unless these differ only in their endings: then the first of `endings` is used. One line of the
        log counts renamed files, except for ways in `usual`. A tail has at least `shortest_tail` parts, if the name has
        as many: files in masks/ must not be found among photographs.
        """
        found = {name: self._find(name, folders, endings, shortest_tail) for name in names}
        astray = {name: file for name, file in found.items() if file.ways - usual}
        _one_name_each(found, astray)
        _report(self._root, found, usual)
        return found

    def photographs(self, folder: str) -> list[Path]:
        """Photographs in a folder, or else in its largest scaled copy, by name; without hidden files and masks.

        Raises UserError if there are none.
        """
        for hit in self._folders_like([_START], folder):
            names = [name for name in self._listed(hit.parts).files if not name.startswith((".", DYNAMIC_MASK))]
            paths = [self._root.joinpath(*hit.parts, name) for name in sorted(names) if _ending(name) in ENDINGS]
            if paths and Way.SCALED in hit.ways:
                log.warning("%s holds no photographs; the %d of %s are read.", folder, len(paths), hit.parts[-1])
            if paths:
                return paths
        raise UserError(f"{self._root / folder} holds no photographs ({', '.join(ENDINGS)}).")

    def _find(self, name: str, folders: Sequence[str], endings: Sequence[str], shortest_tail: int) -> Found:
        plain = posixpath.normpath(name.replace("\\", "/"))
        parts = [part for part in re.sub(r"^[A-Za-z]:", "", plain).split("/") if part not in ("", ".", "..")]
        parts = parts[-_LONGEST_TAIL:]
        is_shortened = parts != plain.split("/")
        for folder in folders:
            where = posixpath.normpath(posixpath.join(folder, plain))
            if self.has(where):
                return Found(self._root / where, _below(self._root, self._root / where))
        for first in range(max(len(parts) - shortest_tail, 0) + 1 if parts else 0):
            for folder in folders:
                hits = self._hits([*filter(None, folder.split("/")), *parts[first:]], endings)
                if hits:
                    return _best(self._root, hits, frozenset({Way.TAIL} if first or is_shortened else ()))
        return Found(self._root / folders[0] / plain, plain)

    def has(self, where: str) -> bool:
        """Whether exactly this file exists, inside the capture or not, from the cached listings."""
        *folders, file = Path(where).parts or ("",)
        return file in self._listed(tuple(folders)).files

    def has_folder(self, name: str) -> bool:
        """Whether a folder of this name, of nearly this name, or a scaled copy of it exists."""
        return bool(self._folders_like([_START], name))

    def _hits(self, parts: list[str], endings: Sequence[str]) -> list["_Hit"]:
        hits = [_START]
        for part in parts[:-1]:
            hits = self._folders_like(hits, part)[:_MOST_FOLDERS]
            if not hits:
                return []
        return [file for hit in hits for file in self._listed(hit.parts).files_like(hit, parts[-1], endings)]

    def _folders_like(self, hits: list["_Hit"], part: str) -> list["_Hit"]:
        """Folders called `part` or nearly so in the folders of `hits`, the likeliest first."""
        inside = [folder for hit in hits for folder in self._listed(hit.parts).folders_like(hit, part)]
        return sorted(inside, key=lambda hit: hit.cost)

    def _listed(self, parts: tuple[str, ...]) -> "_Folder":
        if parts not in self._folders:
            self._folders[parts] = _Folder.listed(self._root.joinpath(*parts))
        return self._folders[parts]


@dataclass(frozen=True, slots=True)
class _Hit:
    """A file or folder with nearly the requested name."""

    parts: tuple[str, ...]
    display: str  # the same with `images` for its scaled copies
    ways: frozenset[Way] = frozenset()
    cost: int = 0

    def into(self, part: str, ways: frozenset[Way], display: str | None = None, extra: int = 0) -> "_Hit":
        cost = self.cost + sum(_COSTS[way] for way in ways) + extra
        return _Hit((*self.parts, part), posixpath.join(self.display, display or part), self.ways | ways, cost)


_START = _Hit((), "")


@dataclass(frozen=True, slots=True)
class _Folder:
    """The content of a folder, sorted; empty if it cannot be read."""

    files: frozenset[str] = frozenset()
    folders: tuple[str, ...] = ()
    files_alike: dict[str, list[str]] = field(default_factory=dict)
    files_of_stem: dict[str, list[str]] = field(default_factory=dict)

    @staticmethod
    def listed(path: Path) -> "_Folder":
        try:
            with os.scandir(path) as entries:
                kinds = sorted((entry.name, entry.is_file(), entry.is_dir()) for entry in entries)
        except (OSError, ValueError):
            return _Folder()
        files = [name for name, is_file, _ in kinds if is_file]
        return _Folder(
            frozenset(files),
            tuple(name for name, _, is_folder in kinds if is_folder),
            _grouped(files, _folded),
            _grouped(files, lambda name: _folded(_stem(name))),
        )

    def folders_like(self, hit: _Hit, name: str) -> Iterator[_Hit]:
        """Of that name, of nearly that name, and scaled copies of it, the largest pictures first."""
        scaled = _SCALED.fullmatch(_folded(name))
        for other in self.folders:
            copy = _SCALED.fullmatch(_folded(other))
            if _folded(other) == _folded(name):
                yield hit.into(other, _difference(other, name))
            elif scaled is not None and copy is not None and scaled[1] == copy[1]:
                yield hit.into(other, frozenset({Way.SCALED}), name, int(copy[2] or 1))

    def files_like(self, hit: _Hit, name: str, endings: Sequence[str]) -> Iterator[_Hit]:
        """The file of that name; else all of nearly that name; else the likeliest of that stem."""
        alike = self.files_alike.get(_folded(name), ())
        if alike:
            yield from (hit.into(other, _difference(other, name)) for other in ((name,) if name in alike else alike))
            return
        for stem, way in ((name, Way.NO_ENDING), (_stem(name), Way.ENDING)):
            of_stem = self.files_of_stem.get(_folded(stem), ())
            by_rank = _grouped((other for other in of_stem if _ending(other) in endings), _rank(name, endings))
            if by_rank and (way is Way.NO_ENDING or _ending(name) in endings):
                ways = {way} if len(by_rank) == 1 else {way, Way.CHOSEN}
                likeliest = by_rank[min(by_rank)]
                yield from (hit.into(other, _difference(_stem(other), stem) | ways) for other in likeliest)
                return


def _best(root: Path, hits: list[_Hit], ways: frozenset[Way]) -> Found:
    least = min(hit.cost for hit in hits)
    first, *others = dict.fromkeys(hit for hit in hits if hit.cost == least)
    either = " or ".join(hit.display for hit in (first, *others))
    problem = f"it may be {either}: rename or remove one" if others else None
    return Found(root.joinpath(*first.parts), first.display, first.ways | ways, problem)


def _one_name_each(found: dict[str, Found], astray: dict[str, Found]) -> None:
    """A file that several names lead to belongs to those that name it exactly, or to none."""
    rightly = {file.path: name for name, file in found.items() if name not in astray}
    by_path = _grouped(astray, lambda name: found[name].path)
    for path, names in by_path.items():
        whose = rightly.get(path)
        if whose is None and len(names) == 1:
            continue
        rivals = f"is {whose!r}" if whose is not None else f"may be {names[0]!r} or {names[1]!r}"
        for name in names:
            found[name] = replace(found[name], problem=f"the one file like it, {found[name].name}, {rivals}")


def _report(root: Path, found: dict[str, Found], usual: frozenset[Way]) -> None:
    """One line for all renamed files: how often in which way, with an example of each."""
    taken = {name: file for name, file in found.items() if file.problem is None and file.ways - usual}
    if not taken:
        return
    counts = Counter(way for file in taken.values() for way in file.ways - usual)
    examples = []
    for way, count in counts.most_common(_MOST_WAYS):
        name, file = next((name, file) for name, file in taken.items() if way in file.ways)
        lies = file.path.relative_to(root).as_posix()
        examples.append(f"{way.value} ({count}, as {lies[-_MOST_CHARACTERS:]} for {name[-_MOST_CHARACTERS:]})")
    log.warning(
        "%d of %d files of %s were found by other names: %s.", len(taken), len(found), root, "; ".join(examples)
    )


def _below(root: Path, path: Path) -> str:
    return posixpath.relpath(path.as_posix(), root.as_posix())


def _difference(one: str, other: str) -> frozenset[Way]:
    """Of two names that are equal when they are folded."""
    if one == other:
        return frozenset()
    composed = unicodedata.normalize("NFC", one) == unicodedata.normalize("NFC", other)
    return frozenset({Way.UNICODE if composed else Way.CASE})


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _ending(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _stem(name: str) -> str:
    return os.path.splitext(name)[0]


def _rank(name: str, endings: Sequence[str]) -> Callable[[str], tuple[bool, int]]:
    """What orders files of the same stem: endings that mean the same as the name's first, then as in `endings`."""
    family = next((family for family in _FAMILIES if _ending(name) in family), {_ending(name)})
    return lambda other: (_ending(other) not in family, endings.index(_ending(other)))


def _grouped(names: Iterable[str], key: Callable[[str], Key]) -> dict[Key, list[str]]:
    groups: dict[Key, list[str]] = {}
    for name in names:
        groups.setdefault(key(name), []).append(name)
    return groups


def name_in_images(name: str) -> str:
    """A path below the capture, relative to the image folder: without `images/` in front, as in COLMAP's names."""
    return name.removeprefix(f"{IMAGE_FOLDER}/")


def rows_of_numbers(path: Path, columns: int) -> list[list[float]]:
    """A text file of numbers, `columns` on each line; labels in front ("P0:") are ignored.

    Raises UserError that names the line.
    """
    try:
        lines = decoded(read_bytes(path, "file of numbers"), "strict").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"{path} cannot be read as text: {error}.") from error
    rows = []
    for number, line in enumerate(lines, 1):
        words = line.split(":", 1)[-1].split()
        if not words:
            continue
        try:
            rows.append([float(word) for word in words])
        except ValueError as error:
            raise UserError(f"{path}, line {number}: it has something that is not a number ({error}).") from error
        if len(rows[-1]) != columns:
            raise UserError(f"{path}, line {number}: a line has {columns} numbers, and this one {len(rows[-1])}.")
    return rows
