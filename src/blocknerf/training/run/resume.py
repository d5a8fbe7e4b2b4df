"""Resumes from a state that the user names: a checkpoint or a kept state, of this output folder or of another."""

from pathlib import Path

from blocknerf.blocks.plan import BlockSpec
from blocknerf.city.states import BEST
from blocknerf.core.errors import UserError
from blocknerf.core.files import write_bytes
from blocknerf.core.logging import log
from blocknerf.models.block_file import BlockFile, has_block, is_finished, read_block, read_block_meta, write_block
from blocknerf.training.block.checkpoint import CHECKPOINT, kept_name
from blocknerf.training.block.metrics import FILE
from blocknerf.training.block.neighbour_targets import NEIGHBOURS
from blocknerf.training.run.locked_blocks import locked_blocks
from blocknerf.training.run.one_block import provenance_of
from blocknerf.training.run.run import Run, open_store


def state_path(named: Path) -> Path:
    """The JSON of a state, given its JSON, its weights or its block's folder.

    A finished block no longer has a `checkpoint`, so `latest` is used. Raises UserError if there is no state.
    """
    path = named / f"{CHECKPOINT}.json" if named.is_dir() else named
    if path.name == f"{CHECKPOINT}.json" and not path.is_file() and has_block(path.parent, "latest"):
        return path.with_name("latest.json")
    if not path.is_file():
        raise UserError(f"There is no checkpoint at {path}. Give checkpoint.json, best.json or step_N.json of a block.")
    if path.suffix == ".safetensors":  # as in step_000100-0123456789abcdef.safetensors
        weights, path = path, path.with_name(f"{path.stem.rpartition('-')[0]}.json")
        if not path.is_file() or read_block_meta(path.parent, path.stem).weights.file != weights.name:
            raise UserError(f"{weights} is half a checkpoint: no {path.name} next to it names it. Restore that file.")
    if path.suffix != ".json":
        raise UserError(
            f"{path} is no checkpoint of this program. Give checkpoint.json, best.json or step_N.json of a block."
        )
    return path


def resume_from_state(run: Run, path: Path, block_ids: tuple[str, ...] = ()) -> None:
    """Makes the state whose JSON is `path` the checkpoint of its block.

    Nothing is lost: the block's present checkpoint becomes a kept state. From another folder, metrics.jsonl and the
    best weights are copied too, if they are next to the state. If `path` is already the block's `checkpoint`, or its
    `latest`, nothing changes.

    Raises UserError, and changes nothing, if the state is damaged or was made from something else (see
    `CheckpointProvenance`), or if its block is finished or not in `block_ids` (empty: all).
    """
    if _is_newest(run, path):
        return
    state = read_block(path.parent, path.stem)
    block = _block_of(run, state, path)
    if block_ids and block.id not in block_ids:
        raise UserError(f"{path} is a state of block {block.id}, which is not in --blocks. Add it.")
    folder = run.block_folder(block.id)
    if is_finished(folder):
        raise UserError(
            f"Block {block.id} in {run.output_dir} is finished, and resuming from {path} would overwrite it. Give a "
            "new output folder."
        )
    checkpoints = run.checkpoint_folder(block.id)
    with locked_blocks(run, [block]):
        _keep_present(checkpoints, block.id)
        if path.parent.resolve() != checkpoints.resolve():
            _bring_along(run, block.id, path.parent, state)
        write_block(checkpoints, CHECKPOINT, state)


def _is_newest(run: Run, path: Path) -> bool:
    block_id = path.parent.name
    newest = (run.checkpoint_folder(block_id) / f"{CHECKPOINT}.json", run.block_folder(block_id) / "latest.json")
    return path.resolve() in [known.resolve() for known in newest]


def _block_of(run: Run, state: BlockFile, path: Path) -> BlockSpec:
    """The block of `state`. Raises UserError if training cannot resume from it, or not in this run."""
    if not state.meta.parts:
        raise UserError(
            f"{path} holds only weights, and training cannot resume from it. Give checkpoint.json, best.json, or a "
            "step_N.json kept by validation.save_freq."
        )
    if NEIGHBOURS in state.meta.parts:
        raise UserError(
            f"{path} belongs to blocks that learned side by side, and one of them cannot resume alone. Use "
            "--side-by-side --resume with their output folder."
        )
    blocks = {block.id: block for block in run.plan.blocks}
    block = blocks.get(state.meta.block_id, run.plan.blocks[0])
    provenance_of(run, block, open_store(run, progress=True)).require(state.meta, path)
    return block


def _keep_present(checkpoints: Path, block_id: str) -> None:
    """Keeps the block's present checkpoint as a kept state."""
    if not has_block(checkpoints, CHECKPOINT):
        return
    try:
        present = read_block(checkpoints, CHECKPOINT)
    except UserError as error:
        log.warning("The present checkpoint of block %s is not kept. %s", block_id, error)
        return
    name = kept_name(present.meta.step)
    if not has_block(checkpoints, name):
        write_block(checkpoints, name, present)
    log.info("Block %s was at step %s, which is kept as %s.", block_id, present.meta.step, name)


def _bring_along(run: Run, block_id: str, source: Path, state: BlockFile) -> None:
    """Copies the figures up to `state`, and its best weights."""
    figures = source / FILE
    lines = figures.read_bytes()[: state.meta.state["metrics.num_bytes"]] if figures.is_file() else b""
    best = read_block(source, BEST) if has_block(source, BEST) else None
    write_bytes(run.block_folder(block_id) / FILE, lines)
    if best is not None and best.meta.step <= state.meta.step:
        write_block(run.checkpoint_folder(block_id), BEST, best)
