"""The files of a prepared scene that `prepare` wrote: it may remove these and no others."""

import errno
import filecmp
import json
import os
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path

from blocknerf.core import disk
from blocknerf.core.errors import UserError
from blocknerf.core.names import is_contained, owned
from blocknerf.core.reading import read_json
from blocknerf.core.system_errors import reason, remedy
from blocknerf.prepare.stages import FOLDER
from blocknerf.scene.readers.found_files import IMAGE_FOLDER

RECORD = "brought.jsonl"
"""Names below the scene, one per line, each recorded before its file is written."""


def require_apart(files: Iterable[Path], out: Path, folders: Iterable[str]) -> None:
    """Raises UserError if a source file is in a folder of `out` that will be rewritten, even through links or mounts: a
    scene's own pictures cannot be its source."""
    output_folders = {number: out / name for name in folders if (number := _number(out / name)) is not None}
    known: dict[Path, Path | None] = {}
    for file in files:
        for parent in (Path(os.path.abspath(file)).parent, Path(os.path.realpath(file)).parent):
            if parent not in known:
                above = (
                    output_folders.get(number) for place in (parent, *parent.parents) if (number := _number(place))
                )
                known[parent] = next((folder for folder in above if folder is not None), None)
            if known[parent] is not None:
                raise UserError(
                    f"{file} lies in {known[parent]}, which `blocknerf prepare` writes and empties itself. Give the "
                    "folder that the photographs came from, or copy them out of there first."
                )


class Brought:
    """Pictures and masks that this and earlier runs wrote into the scene `out`, from their record in OUT/prepare."""

    def __init__(self, out: Path) -> None:
        self.out, self._record = out, out / FOLDER / RECORD
        self._names = set(_recorded(self._record))
        self._num_bytes: int | None = None

    def place(self, name: str, source: Path | None = None) -> Path:
        """The path for writing `name`, which is recorded first.

        Raises UserError if another file is there, unless it is that of `source` or a copy of it, if a link leads out of
        the scene, or if it cannot be recorded.
        """
        path = owned(self.out, name)
        if name in self._names:
            return path
        is_same = source is not None and path.is_file() and filecmp.cmp(source, path, shallow=False)
        if os.path.lexists(path) and not is_same:
            raise UserError(
                f"{path} is there already, and `blocknerf prepare` has not made it. Move it away, or choose another "
                "folder for the scene."
            )
        try:
            self._write_down(json.dumps(name).encode() + b"\n")
        except OSError as error:
            raise UserError(
                f"Cannot write {self._record}: {reason(error)}. No picture is changed; {remedy(error)}, then run the "
                "same command again."
            ) from error
        self._names.add(name)
        return path

    def _write_down(self, line: bytes) -> None:
        """Removes a line that was cut off when a run was killed."""
        disk.make_folder(self._record.parent)
        with disk.reopen(self._record) as record:
            if self._num_bytes is None:
                self._num_bytes = record.read().rfind(b"\n") + 1
            if os.fstat(record.fileno()).st_size > self._num_bytes:
                disk.truncate(record, self._num_bytes)
            record.seek(self._num_bytes)
            if record.write(line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            disk.fsync(record)
        self._num_bytes += len(line)

    def remove(self, folder: str, but: Collection[str] = ()) -> None:
        """Removes recorded files from a folder of the scene, and folders that are then empty."""
        for name in sorted(self._names):
            if name.startswith(f"{folder}/") and name not in but:
                disk.unlink(owned(self.out, name), missing_ok=True)
        for path in sorted((self.out / folder).rglob("*"), reverse=True):
            if path.is_dir() and not path.is_symlink():
                with suppress(OSError):  # it is not empty
                    disk.rmdir(path)


def _recorded(path: Path) -> list[str]:
    """The recorded names; a line that was cut off when a run was killed has no file yet.

    Older scenes without this record have their pictures' names in that of the first stage.
    """
    if path.is_file():
        lines = path.read_text(encoding="utf-8").splitlines()
    else:
        stage = path.with_name("images.json")
        tree = read_json(stage, "record of the stage images") if stage.is_file() else {}
        shots = tree.get("result", []) if isinstance(tree, dict) else []
        lines = [json.dumps(f"{IMAGE_FOLDER}/{shot['name']}") for shot in shots]
    names = []
    for line in lines:
        with suppress(ValueError):
            names.append(json.loads(line))
    return [name for name in names if isinstance(name, str) and is_contained(name)]


def _number(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
