"""Which blocks of a run must still be trained, and what is deleted of what they have learned."""

from blocknerf.blocks.plan import BlockSpec
from blocknerf.core.errors import UserError
from blocknerf.core.logging import log
from blocknerf.models.block_file import delete_block, has_block, read_block, read_block_meta
from blocknerf.models.block_meta import BlockMeta
from blocknerf.training.block.checkpoint import delete_checkpoints, delete_states, forget_way
from blocknerf.training.run.run import Run


def blocks_to_update(run: Run, blocks: list[BlockSpec]) -> list[BlockSpec]:
    """All of `blocks`. `latest` stays until the first save, so that the city stays whole.

    An update that was stopped resumes from its checkpoint, which has the block's new images. The earlier best weights
    stay until the update replaces them with better ones.
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
            f"{run.output_dir} already holds what block {names} has learned. Add --resume to resume it, --overwrite to "
            "delete it, or choose another --output-dir."
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
    """Whether the block is finished and whole. A damaged one is logged and trained again.

    Raises UserError for an unfinished block without a checkpoint.
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
        forget_way(folder)  # if a process ended just before it did so
        log.info("Block %s is finished. Only --overwrite trains it again.", block_id)
        return True
    if not has_block(folder, "checkpoint"):
        raise UserError(
            f"Block {block_id} was trained to step {meta.step}, but its checkpoint is not in {folder}. Restore it, set "
            "output.checkpoint_dir to its folder, resume from a kept state with --resume-from step_N.json, or train "
            "the block anew with --overwrite."
        )
    return False


def _whole_meta(run: Run, block_id: str) -> BlockMeta:
    """The JSON of a block's `latest`. Raises UserError if its weights are damaged or, on a URL, missing."""
    folder, output = run.block_folder(block_id), run.output
    if output.url is None:
        return read_block(folder, "latest").meta
    meta = read_block_meta(folder, "latest")
    weights = output.relative(folder / meta.weights.file)
    if not output.holds(weights, meta.weights.bytes):
        raise UserError(f"{output.url}/{weights} is missing or has another size than latest.json says.")
    return meta
