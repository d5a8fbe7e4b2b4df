"""alignment.json: by how much each block's appearance codes are moved so that neighbours show one look.

Weights stay as they were trained. An entry names the weights that it was found for, so that a block which is trained
again loses its own entry and no other.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.core.errors import UserError
from blocknerf.core.files import write_json
from blocknerf.core.reading import read_json

ALIGNMENT_VERSION = 1


@dataclass(frozen=True, slots=True)
class BlockShifts:
    """What is added to a block's appearance codes, by drive; `weights_sha256` is the hash of the weights it fits."""

    weights_sha256: str
    by_drive: Mapping[str, tuple[float, ...]]

    def shift(self, drive: str | None) -> Float[Tensor, " appearance"] | None:
        """None where the drive's codes stay as they are."""
        found = self.by_drive.get(drive or "")
        return None if found is None else torch.tensor(found)


@dataclass(frozen=True, slots=True)
class Alignment:
    """Shifts by block id. A block without an entry shows its looks as it learned them."""

    blocks: Mapping[str, BlockShifts] = field(default_factory=dict)


def write_alignment(out: Path, alignment: Alignment) -> Path:
    """Writes OUT/alignment.json as one atomic change; returns its path."""
    path = out / "alignment.json"
    blocks = {
        block_id: {"weights_sha256": entry.weights_sha256, "shifts": dict(entry.by_drive)}
        for block_id, entry in sorted(alignment.blocks.items())
    }
    write_json(path, {"version": ALIGNMENT_VERSION, "blocks": blocks})
    return path


def read_alignment(out: Path) -> Alignment:
    """An empty one where there is no file. Raises UserError when it is damaged or of another version."""
    path = out / "alignment.json"
    if not path.is_file():
        return Alignment()
    tree = read_json(path, "alignment")
    version = tree.get("version") if isinstance(tree, dict) else None
    if version != ALIGNMENT_VERSION:
        raise UserError(
            f"{path} is an alignment of version {version}; this program reads version {ALIGNMENT_VERSION}. {_REMEDY}"
        )
    try:
        return Alignment({str(block_id): _entry(entry) for block_id, entry in tree["blocks"].items()})
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"The alignment {path} is damaged ({error!r}). {_REMEDY}") from error


def _entry(tree: dict[str, Any]) -> BlockShifts:
    shifts = {str(drive): tuple(float(x) for x in shift) for drive, shift in tree["shifts"].items()}
    return BlockShifts(str(tree["weights_sha256"]), shifts)


_REMEDY = "Delete it, and run `blocknerf align` again."
