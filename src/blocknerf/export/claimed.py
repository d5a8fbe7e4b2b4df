"""The files of a folder that earlier exports wrote, listed in exported.json: only these may be replaced."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from blocknerf.core.errors import UserError
from blocknerf.core.files import write_json
from blocknerf.core.names import owned
from blocknerf.core.reading import read_json
from blocknerf.core.stored import Text, fitted

RECORD = "exported.json"
_REMEDY = "Give another folder."


def claim(folder: Path, names: Sequence[str]) -> None:
    """Records files of these names in `folder` as written by exports.

    Raises UserError if one exists that no export wrote, or a link leads out of the folder.
    """
    record, known = folder / RECORD, _recorded(folder / RECORD)
    for name in names:
        path = owned(folder, name)
        if name not in known and os.path.lexists(path):
            raise UserError(
                f"{path} was not written by an export into {folder}, so it is left as it is. Move it elsewhere, or "
                "give another folder."
            )
    if not known.issuperset(names):
        write_json(record, {"version": 1, "files": sorted(known.union(names))})


def _recorded(record: Path) -> set[str]:
    if not record.is_file():
        return set()
    return set(fitted(_Record, read_json(record, "record of exports"), "record of exports", record, _REMEDY).files)


@dataclass(frozen=True)
class _Record:
    version: int
    files: list[Text]
