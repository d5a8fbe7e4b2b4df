"""Joins the splats of separately trained blocks: each block contributes what is in its territory."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from blocknerf.blocks.plan import Plan, read_plan
from blocknerf.core.errors import UserError
from blocknerf.core.logging import log
from blocknerf.export.merge_seams import Side, side_of
from blocknerf.export.nerfstudio_frame import TRANSFORMS_NAME, read_transforms, transforms_beside
from blocknerf.export.splats import Splats, transformed
from blocknerf.export.splats_file import READERS, read_splats
from blocknerf.export.splats_ply import is_splats_ply
from blocknerf.export.voronoi_cells import VoronoiCells

_FEW = 0.05


@dataclass(frozen=True, slots=True)
class SplatFile:
    """A block's splat file, and the trainer's transformation of the scene, if any."""

    block_id: str
    path: Path

    @property
    def transforms(self) -> Path | None:
        return transforms_beside(self.path)


@dataclass(frozen=True, slots=True)
class Merged:
    """The city's splats; per block the number read, dropped as a neighbour's, and dropped as not finite."""

    splats: Splats
    blocks: dict[str, dict[str, int]]
    sides: list[Side]


def find_plan(sources: Sequence[str], given: Path | None) -> Plan:
    """The plan by which blocks were cut: `given`, or plan.json in the folder of a source or above it."""
    if given is not None:
        return read_plan(given / "plan.json" if given.is_dir() else given)
    for source in sources:
        path = Path(source.partition("=")[2] or source).absolute()
        found = next((place / "plan.json" for place in (path, *path.parents) if (place / "plan.json").is_file()), None)
        if found is not None:
            return read_plan(found)
    raise UserError(
        f"No plan.json lies with {sources[0]} or above it, so nothing says where blocks end. Give the folder that "
        "`blocknerf export blocks` wrote, or --plan."
    )


def find_splats(sources: Sequence[str], plan: Plan) -> list[SplatFile]:
    """One file per block: from folders what has a block's name, from files those that name their block.

    Raises UserError if a file's block is unclear, a block has several files, or a folder has none.
    """
    ids = tuple(block.id for block in plan.blocks)
    found: list[SplatFile] = []
    for source in sources:
        block_id, _, named = source.partition("=")
        if named and block_id in ids:
            found.append(SplatFile(block_id, Path(named)))
        elif Path(source).is_dir():
            found += _in_folder(Path(source), ids)
        else:
            found.append(SplatFile(_block_of(Path(source), ids), Path(source)))
    for block_id in ids:
        paths = [str(file.path) for file in found if file.block_id == block_id]
        if len(paths) > 1:
            raise UserError(f"Block {block_id} has {len(paths)} splat files: {', '.join(paths)}. Give {block_id}=FILE.")
    missing = sorted(set(ids) - {file.block_id for file in found})
    if missing:
        log.warning("No splats of block %s were given: their places stay empty.", ", ".join(missing))
    return sorted(found, key=lambda file: file.block_id)


def require_apart(out: Path, files: Sequence[SplatFile]) -> None:
    """Raises UserError if the city would overwrite the splats of a block."""
    for file in files:
        if out.exists() and file.path.exists() and out.samefile(file.path):
            raise UserError(f"{out} holds the splats of block {file.block_id}, which are merged. Give another --out.")


def merge_splats(files: Sequence[SplatFile], plan: Plan) -> Merged:
    """Reads one block after the other, transforms it back to the world, and keeps what is in its territory.

    Raises UserError for a file without splats, or if none can be kept.
    """
    voronoi_cells = VoronoiCells.of(plan)
    parts, blocks, sides = [], {}, []
    for file in files:
        number = voronoi_cells.ids.index(file.block_id)
        splats = read_splats(file.path)
        finite = splats[_finite(splats)]
        if file.transforms is not None:
            finite = transformed(finite, read_transforms(file.transforms))
            finite = finite[_finite(finite)]
        is_inside = voronoi_cells.owners(finite.means) == number
        kept = finite[is_inside]
        if len(kept) < _FEW * len(splats):
            log.warning(
                "Block %s keeps %d of %d splats of %s. Was the scene moved or scaled by the trainer? Switch that off, "
                "or lay its %s beside the file.",
                file.block_id,
                len(kept),
                len(splats),
                file.path,
                TRANSFORMS_NAME,
            )
        parts.append(kept)
        blocks[file.block_id] = {
            "splats": len(splats),
            "kept": len(kept),
            "dropped": int((~is_inside).sum()),
            "not_finite": len(splats) - len(finite),
        }
        sides += side_of(voronoi_cells, number, kept)
    if not any(len(part) for part in parts):
        raise UserError("Not one splat lies in the territory of its block: these files belong to another scene.")
    return Merged(Splats.concatenate(parts), blocks, sides)


def _in_folder(folder: Path, ids: tuple[str, ...]) -> list[SplatFile]:
    """The splat files in the folder itself, and anywhere in those of its blocks."""
    found = []
    for block_id in ids:
        flat = [folder / f"{block_id}{ending}" for ending in READERS]
        paths = [path for path in flat if path.is_file()]
        paths += [path for path in sorted((folder / block_id).rglob("*")) if path.suffix.lower() in READERS]
        found += [SplatFile(block_id, path) for path in paths if path.suffix.lower() != ".ply" or is_splats_ply(path)]
    if not found:
        raise UserError(
            f"{folder} holds no splats of any block: expected them as {folder / ids[0]}.ply or anywhere in "
            f"{folder / ids[0]}, .ply or .spz, and so on."
        )
    return found


def _block_of(path: Path, ids: tuple[str, ...]) -> str:
    for name in (path.stem, *(parent.name for parent in path.absolute().parents)):
        if name in ids:
            return name
    raise UserError(
        f"Which block {path} belongs to is unclear: neither the file nor a folder above it has a block's name. "
        f"Write BLOCK={path}; blocks are {', '.join(ids[:20])}{' ...' if len(ids) > 20 else ''}."
    )


def _finite(splats: Splats) -> np.ndarray:
    arrays = (splats.means, splats.log_scales, splats.quaternions, *splats.harmonics.swapaxes(0, 1))
    finite = np.all([np.isfinite(array).all(axis=1) for array in arrays], axis=0)
    return finite & ~np.isnan(splats.opacity_logits) & (splats.quaternions != 0).any(axis=1)
