"""Splat files of both kinds, recognised by their endings."""

from pathlib import Path

from blocknerf.core.errors import UserError
from blocknerf.export.splats import Splats
from blocknerf.export.splats_ply import read_splats_ply, write_splats_ply
from blocknerf.export.splats_spz import read_splats_spz, write_splats_spz

READERS = {".ply": read_splats_ply, ".spz": read_splats_spz}
WRITERS = {".ply": write_splats_ply, ".spz": write_splats_spz}


def check_splats_name(path: Path) -> None:
    """Raises UserError unless the ending names a kind of splat file."""
    if path.suffix.lower() not in WRITERS:
        raise UserError(f"{path}: splats are written as .ply or .spz; end the name with one of these.")


def read_splats(path: Path) -> Splats:
    """Raises UserError if the file does not exist or has no splats."""
    check_splats_name(path)
    if not path.is_file():
        raise UserError(f"There is no splat file {path}.")
    return READERS[path.suffix.lower()](path)


def write_splats(path: Path, splats: Splats) -> None:
    check_splats_name(path)
    WRITERS[path.suffix.lower()](path, splats)
