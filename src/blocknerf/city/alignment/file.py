"""alignment.json: the shifts of each block's appearance codes that make neighbours show the same appearance.

Weights do not change. Each entry names the weights for which it was computed, so that a block trained again loses only
its own entry.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.core.stored import Number, Text, fitted, read_stored, write_stored

ALIGNMENT_FILE, ALIGNMENT_VERSION = "alignment.json", 1


@dataclass(frozen=True, slots=True)
class BlockShifts:
    """Shifts of a block's appearance codes, by drive; `weights_sha256` is the hash of the weights that they fit."""

    weights_sha256: str
    by_drive: Mapping[str, tuple[float, ...]]

    def shift(self, drive: str | None) -> Float[Tensor, " appearance"] | None:
        """The shift of a drive; None if its codes do not change."""
        found = self.by_drive.get(drive or "")
        return None if found is None else torch.tensor(found)


@dataclass(frozen=True, slots=True)
class Alignment:
    """Shifts by block id. A block without an entry shows each appearance as it learned it."""

    blocks: Mapping[str, BlockShifts] = field(default_factory=dict)


def write_alignment(out: Path, alignment: Alignment) -> Path:
    """Writes OUT/alignment.json atomically; returns its path."""
    path = out / ALIGNMENT_FILE
    blocks = {
        block_id: {"weights_sha256": entry.weights_sha256, "shifts": dict(entry.by_drive)}
        for block_id, entry in sorted(alignment.blocks.items())
    }
    write_stored(path, {"version": ALIGNMENT_VERSION, "blocks": blocks})
    return path


def read_alignment(out: Path) -> Alignment:
    """The alignment of a city; empty if there is no file. Raises UserError if it is damaged or of another version."""
    path = out / ALIGNMENT_FILE
    if not path.is_file():
        return Alignment()
    tree = read_stored(path, "alignment", _REMEDY, ALIGNMENT_VERSION)
    blocks = fitted(_File, tree, "alignment", path, _REMEDY).blocks
    return Alignment({name: BlockShifts(entry.weights_sha256, entry.shifts) for name, entry in blocks.items()})


@dataclass(frozen=True)
class _Entry:
    weights_sha256: Text
    shifts: dict[Text, tuple[Number, ...]]


@dataclass(frozen=True)
class _File:
    blocks: dict[Text, _Entry]


_REMEDY = "Delete it, and run `blocknerf align` again."
