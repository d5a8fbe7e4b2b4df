"""Files of the image store: made under temporary names, renamed together, and checked for damage."""

import math
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import Progress

from blocknerf.core import disk
from blocknerf.core.errors import UserError
from blocknerf.core.files import fingerprint, write_json
from blocknerf.core.lock import locked_folder
from blocknerf.core.reading import read_json
from blocknerf.core.stored import Text, Whole, fitted
from blocknerf.core.system_errors import reason, remedy

STORE_VERSION = 1
KINDS = ("rgb", "directions", "valid", "depth_z", "offsets")
STAGE_FILES = tuple(f"side_*.{kind}" for kind in (*KINDS, "json"))
"""Files resampled from level 0 and remade with it (see scene/stage_levels.py)."""


def alone(folder: Path) -> AbstractContextManager[object]:
    """A second process waits while the first decodes, and then finds the result. A read-only folder needs no lock."""
    if folder.is_dir() and not os.access(folder, os.W_OK):
        return nullcontext()
    return locked_folder(folder, f"The image store {folder} is being made", wait_s=math.inf)


def in_parallel(tasks: list[Callable[[], Any]], threads: int, progress_bars: Progress, title: str) -> Iterable[Any]:
    """Results in the order of the tasks. A task does not return pixels, so memory holds one image per thread."""
    with ThreadPoolExecutor(threads) as pool:
        yield from progress_bars.track(pool.map(lambda task: task(), tasks), len(tasks), description=title)


class Parts:
    """Files under temporary names. They are renamed together at the end, or removed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open: dict[str, tuple[Path, int]] = {}

    def create(self, name: str, num_bytes: int) -> None:
        """Reserves the space now, so that a full disk is an error now and not a crash later."""
        path = disk.temporary(self.folder / name)
        self._open[name] = (path, disk.reserve(path, num_bytes))

    def write(self, name: str, array: np.ndarray, at_byte: int) -> None:
        disk.write_at(self._open[name][1], np.ascontiguousarray(array).data, at_byte)

    def finish(self) -> None:
        for name, (path, handle) in self._open.items():
            disk.fsync(handle)
            disk.replace(path, self.folder / name)

    def close(self) -> None:
        for path, handle in self._open.values():
            os.close(handle)
            if path.exists():
                disk.unlink(path)


@contextmanager
def replaced(manifest: Path, patterns: Iterable[str]) -> Iterator[Parts]:
    """Parts that replace all files beside `manifest` that match `patterns`; the manifest is removed first.

    Raises UserError if the disk is full or the folder is not writable.
    """
    folder = manifest.parent
    parts = Parts(folder)
    try:
        disk.make_folder(folder)
        disk.unlink(manifest, missing_ok=True)
        yield parts
        for stale in _fitting(folder, patterns):
            disk.unlink(stale)
        parts.finish()
    except OSError as error:
        raise UserError(
            f"Cannot write the image store in {folder}: {reason(error)}. {remedy(error).capitalize()}, then run the "
            "same command again; a larger dataset.image_downsample makes the store smaller."
        ) from error
    finally:
        parts.close()


@dataclass(frozen=True)
class Manifest:
    version: Whole
    content_hash: Text
    files: dict[Text, Any]  # by name its fingerprint
    skipped: list[tuple[Text, Text]]


def read_manifest(path: Path) -> Manifest:
    return fitted(Manifest, read_json(path, "image store"), "image store", path, "Remove its folder.")


def write_manifest(path: Path, content_hash: str, skipped: list[tuple[str, str]], patterns: Iterable[str]) -> None:
    """Of the current files beside it that match `patterns`."""
    files = {found.name: fingerprint(found) for found in _fitting(path.parent, patterns)}
    write_json(path, {"version": STORE_VERSION, "content_hash": content_hash, "skipped": skipped, "files": files})


def why_stale(manifest: Path, content_hash: str, what: str = "image store") -> str | None:
    """What is wrong with the files that `manifest` lists; None if they are whole and made from the same sources."""
    if not manifest.is_file():
        return f"There is no {what} yet"
    try:
        made = read_manifest(manifest)
        if made.version != STORE_VERSION or made.content_hash != content_hash:
            return f"The {what} is of other photographs, masks or sizes"
        for name, expected in made.files.items():
            if fingerprint(manifest.parent / name) != expected:
                return f"The image store's file {manifest.parent / name} is damaged"
    except UserError:
        return f"The image store's {manifest} is damaged"
    return None


def _fitting(folder: Path, patterns: Iterable[str]) -> list[Path]:
    return sorted({path for pattern in patterns for path in folder.glob(pattern)})
