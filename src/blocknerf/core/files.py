"""Files that are whole or absent: written beside, fsynced, renamed."""

import contextlib
import hashlib
import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from blocknerf.core.errors import UserError
from blocknerf.core.system_errors import reason, remedy

_SAMPLED_PIECES = 64
_PIECE_BYTES = 4096


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Calls `write(temporary)` and puts the result in the place of `path`; `path` is never half written.

    Raises UserError when the disk is full or the folder cannot be written; the old file is then untouched.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise UserError(
            f"Cannot write {path}: {reason(error)}. What was there before is untouched; {remedy(error)}, then run the "
            "same command again."
        ) from error
    finally:
        with contextlib.suppress(OSError):  # the error above says more than a second one about the same folder
            temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    write_atomically(path, lambda temporary: _write(temporary, (content,)))


def _write(path: Path, pieces: Iterable[bytes]) -> None:
    with path.open("wb") as handle:
        handle.writelines(pieces)


def write_json(path: Path, value: Any) -> None:
    """Writes JSON in the order given, two-space indent, a flat list on one line, a final newline, piece by piece."""
    content = itertools.chain((piece.encode() for piece in _json_pieces(value, "\n")), (b"\n",))
    write_atomically(path, lambda temporary: _write(temporary, content))


def _json_pieces(value: Any, newline: str) -> Iterator[str]:
    """`newline` is a line break and the indent of what holds the value."""
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
