"""Files that are whole or absent: written under a temporary name, fsynced, renamed."""

import hashlib
import io
import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from blocknerf.core import disk
from blocknerf.core.errors import UserError
from blocknerf.core.lock import sweep_once
from blocknerf.core.system_errors import reason, remedy

_SAMPLED_PIECES = 64
_PIECE_BYTES = 4096


def write_atomically(path: Path, write: Callable[[Path], Any]) -> None:
    """Calls `write(temporary)` and renames the result to `path`, which is never half written.

    `write` goes through core.disk, or is a library that can only write to a path (`write_by_library`). A file with
    another name (a hard link) keeps its bytes under that name. Raises UserError if `path` is a symbolic link, the disk
    is full or the folder is not writable; the old file is then unchanged.
    """
    if path.is_symlink():
        raise UserError(
            f"{path} is a link, to {os.readlink(path)}, and is left as it is: remove it to have a file written in its "
            "place, or name another."
        )
    temporary, state = disk.temporary(path), "What was there before is untouched"
    try:
        disk.make_folder(path.parent)
        sweep_once(path.parent)
        write(temporary)
        disk.fsync_path(temporary)
        disk.replace(temporary, path)
        state = "The file is in its place, but a power failure may still undo that"
        disk.fsync_path(path.parent)
    except OSError as error:
        raise UserError(
            f"Cannot write {path}: {reason(error)}. {state}; {remedy(error)}, then run the same command again."
        ) from error
    finally:
        with suppress(OSError):  # the error above says more than another about the same folder
            if temporary.exists():
                disk.unlink(temporary)


def write_pieces(path: Path, pieces: Iterable[Any]) -> None:
    """Bytes or buffers, one after the other."""

    def write(temporary: Path) -> None:
        with disk.create(temporary) as file:
            file.writelines(pieces)

    write_atomically(path, write)


def write_bytes(path: Path, content: bytes) -> None:
    write_pieces(path, (content,))


def write_array(path: Path, array: np.ndarray) -> None:
    """As .npy."""
    header = io.BytesIO()
    whole = np.ascontiguousarray(array)
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(whole))
    write_pieces(path, (header.getvalue(), whole.data))


def write_picture(path: Path, picture: Any, kind: str, **options: Any) -> None:
    """A picture of Pillow, encoded as `kind` ("PNG", "JPEG", ...)."""
    content = io.BytesIO()
    picture.save(content, kind, **options)
    write_bytes(path, content.getvalue())


def write_by_library(path: Path, write: Callable[[Path], Any]) -> None:
    """As `write_atomically`, where `write` is a library that opens the file itself."""
    write_atomically(path, lambda temporary: disk.by_library(temporary, lambda: write(temporary)))


def copy_file(source: Path, target: Path) -> None:
    write_atomically(target, lambda temporary: disk.copy(source, temporary))


def put_folder(unfinished: Path, folder: Path) -> None:
    """Moves a folder to its place and removes the old one.

    Atomic if the disk can exchange names. Otherwise the old one is moved aside first, and a process that is killed in
    between leaves it there: `recover_folder` restores it.
    """
    aside = _aside(folder)
    if not folder.exists():
        disk.replace(unfinished, folder)
    elif disk.exchange(unfinished, folder):
        aside = unfinished
    else:
        disk.remove_tree(aside)
        disk.replace(folder, aside)
        disk.replace(unfinished, folder)
    disk.fsync_path(folder.parent)
    disk.remove_tree(aside)


def recover_folder(folder: Path) -> None:
    """Restores a folder that was moved aside for a new one which was never finished."""
    aside = _aside(folder)
    if aside.exists() and not folder.exists():
        disk.replace(aside, folder)
    disk.remove_tree(aside)


def is_empty(folder: Path) -> bool:
    """Whether a folder contains only locks and temporary files."""
    return all(disk.is_unfinished(path.name) for path in folder.iterdir())


def _aside(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")


def write_json(path: Path, value: Any) -> None:
    """Writes JSON in the order given, two-space indent, a flat list on one line, a final newline, piece by piece."""
    write_pieces(path, itertools.chain((piece.encode() for piece in _json_pieces(value, "\n")), (b"\n",)))


def _json_pieces(value: Any, newline: str) -> Iterator[str]:
    """`newline` is a line break and the indent of the enclosing value."""
    deeper = newline + "  "
    if isinstance(value, dict) and value:
        for number, (key, item) in enumerate(value.items()):
            yield ("," if number else "{") + deeper + json.dumps(str(key)) + ": "
            yield from _json_pieces(item, deeper)
        yield newline + "}"
    elif isinstance(value, list | tuple) and any(isinstance(item, dict | list | tuple) for item in value):
        for number, item in enumerate(value):
            yield ("," if number else "[") + deeper
            yield from _json_pieces(item, deeper)
        yield newline + "]"
    else:
        yield json.dumps(value, allow_nan=False)


def fingerprint(path: Path) -> dict[str, Any] | None:
    """The file's size and a hash of pieces spread evenly over it, both ends included: cheap for any size.

    None where there is no such file.
    """
    if not path.is_file():
        return None
    num_bytes, digest = path.stat().st_size, hashlib.sha256()
    last = max(num_bytes - _PIECE_BYTES, 0)
    with path.open("rb") as handle:
        for piece in range(_SAMPLED_PIECES):
            handle.seek(last * piece // (_SAMPLED_PIECES - 1))
            digest.update(handle.read(_PIECE_BYTES))
    return {"bytes": num_bytes, "sampled_sha256": digest.hexdigest()}
