"""The files of a capture, which no command may change, under any name or link."""

import os
from dataclasses import dataclass
from pathlib import Path

from blocknerf.core.errors import UserError
from blocknerf.scene.part import files_of
from blocknerf.scene.scene import Scene


@dataclass(frozen=True, slots=True)
class Originals:
    """Photographs, masks, depth maps and tables of rays, by device and inode number."""

    root: Path
    numbers: frozenset[tuple[int, int]]

    @classmethod
    def of(cls, scene: Scene) -> "Originals":
        return cls(scene.root, frozenset(number for path in files_of(scene) if (number := _number(path)) is not None))

    def holds(self, path: Path) -> bool:
        """Whether `path` is one of them, or a link to one, symbolic or hard."""
        return _number(path) in self.numbers

    def require_apart(self, path: Path) -> Path:
        """The path, for a file to write. Raises UserError if it is a file of the capture."""
        if self.holds(path):
            raise UserError(
                f"{path} is a file of the capture in {self.root}, or a link to one, and is left as it is. Give another "
                "folder to write to."
            )
        return path


def _number(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except (OSError, ValueError):  # there is no such file, and there can be none of that name
        return None
    return found.st_dev, found.st_ino
