"""Which state of each block a city uses: the latest, the best in validation, or one that the user names."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from blocknerf.city.manifest import CityBlock, block_folder, checkpoint_folder
from blocknerf.core.errors import UserError
from blocknerf.core.logging import log
from blocknerf.models.block_file import has_block, read_block_meta

LATEST, BEST = "latest", "best"


@dataclass(frozen=True, slots=True)
class StateFile:
    """The file pair of `name`.json and its weights in `folder`."""

    folder: Path
    name: str


def state_files(out: Path, blocks: Sequence[CityBlock], state: str) -> dict[str, StateFile]:
    """The file used for each trained block of the city in `out`, by block id.

    `state` is "latest"; "best", the state of each block with the best validation PSNR (blocks that were never validated
    use their latest state, with a warning); or the path of the JSON of one block's state, with the latest state of all
    others. Raises UserError if no block has a best state, or if the path is not a block's state.
    """
    newest = {block.id: _newest(out, block) for block in blocks}
    latest = {block_id: found for block_id, found in newest.items() if found is not None}
    if state == LATEST:
        return latest
    if state != BEST:
        return latest | _named(Path(state), latest)
    best = {block_id: StateFile(_checkpoint_folder(out, block_id, found), BEST) for block_id, found in latest.items()}
    best = {block_id: found for block_id, found in best.items() if has_block(found.folder, found.name)}
    if not best:
        raise UserError(
            f"No block of {out} has a best state, because none was validated. Omit --state best, or train with test "
            "images and validation.num_val_images above 0."
        )
    if missing := sorted(latest.keys() - best.keys()):
        log.warning("Never validated, so the latest state is used: block %s.", ", ".join(missing))
    return latest | best


def _newest(out: Path, block: CityBlock) -> StateFile | None:
    folder = block_folder(out, block.id)
    return next((StateFile(folder, name) for name in block.files if has_block(folder, name)), None)


def _checkpoint_folder(out: Path, block_id: str, latest: StateFile) -> Path:
    output = read_block_meta(latest.folder, latest.name).model.config.output
    return checkpoint_folder(out, block_id, output.checkpoint_dir)


def _named(path: Path, latest: dict[str, StateFile]) -> dict[str, StateFile]:
    if path.suffix != ".json" or not path.is_file():
        raise UserError(
            f"--state {path} is no state: give latest, best, or the JSON of a state, as in "
            "OUT/blocks/003/step_000500.json."
        )
    block_id = read_block_meta(path.parent, path.stem).block_id
    if block_id not in latest:
        raise UserError(f"--state {path} is of block {block_id}, which the city does not have: {', '.join(latest)}.")
    return {block_id: StateFile(path.parent, path.stem)}
