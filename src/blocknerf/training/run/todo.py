"""Which blocks of a run are left to train, and what becomes of what they have learned."""

from blocknerf.blocks.plan import BlockSpec
from blocknerf.core.errors import UserError
from blocknerf.core.logging import log
from blocknerf.models.block_file import delete_block, has_block, read_block, read_block_meta
from blocknerf.models.block_meta import BlockMeta
from blocknerf.training.block.checkpoint import delete_checkpoints, delete_states, forget_way
from blocknerf.training.run.run import Run


def blocks_to_update(run: Run, blocks: list[BlockSpec]) -> list[BlockSpec]:
    """All of them. `latest` stays until the first save, so that the city stays whole.

    An update that was stopped goes on from its checkpoint: that knows the block's new images. The best weights of
    before stay until the update has better ones to put in their place.
    """
    for block in blocks:
        folder, images = run.checkpoint_folder(block.id), set(block.train_images)
        if not has_block(folder, "checkpoint") or set(read_block_meta(folder, "checkpoint").image_ids) != images:
            delete_states(folder)
    return blocks


def blocks_to_train(run: Run, blocks: list[BlockSpec], resume: bool, overwrite: bool) -> list[BlockSpec]:
    begun = [block for block in blocks if _is_begun(run, block.id)]
    if begun and not (resume or overwrite):
        names = ", ".join(block.id for block in begun)
        raise UserError(
            f"{run.output_dir} already holds what was learned of block {names}. Add --resume to go on with it, "
            "--overwrite to give it up, or choose another --output-dir."
        )
    if overwrite:
        for block in begun:
            delete_block(run.block_folder(block.id), "latest")
            delete_checkpoints(run.checkpoint_folder(block.id))
            run.push_block(block.id)
        return blocks
    return [block for block in blocks if not is_learned(run, block.id)]


def _is_begun(run: Run, block_id: str) -> bool:
    return has_block(run.block_folder(block_id), "latest") or has_block(run.checkpoint_folder(block_id), "checkpoint")


def is_learned(run: Run, block_id: str) -> bool:
    """Whether a whole, finished block lies there; a damaged one is named and trained again.

    Raises UserError for a block that was begun and has lost its checkpoint.
    """
    if not has_block(run.block_folder(block_id), "latest"):
        return False
    try:
        meta = _whole_meta(run, block_id)
    except UserError as error:
        log.warning("Block %s is trained again. %s", block_id, error)
        return False
    folder = run.checkpoint_folder(block_id)
    if meta.finished:
        forget_way(folder)  # where a process ended just before it did
        log.info("Block %s is finished; only --overwrite trains it again.", block_id)
        return True
    if not has_block(folder, "checkpoint"):
        raise UserError(
            f"Block {block_id} was trained to step {meta.step}, but its checkpoint is not in {folder}. Restore "
            "it, set output.checkpoint_dir to the folder it lies in, go on from a kept state with --resume-from "
            "step_N.json, or train the block anew with --overwrite."
        )
    return False


def _whole_meta(run: Run, block_id: str) -> BlockMeta:
    """The JSON of what a block learned. Raises UserError where its weights are damaged; on a URL, where they lack."""
    folder, output = run.block_folder(block_id), run.output
    if output.url is None:
        return read_block(folder, "latest").meta
    meta = read_block_meta(folder, "latest")
    weights = output.relative(folder / meta.weights.file)
    if not output.holds(weights, meta.weights.bytes):
        raise UserError(f"{output.url}/{weights} is missing or has another size than latest.json says.")
    return meta
