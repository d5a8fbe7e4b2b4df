"""One block of a run: its inputs, and its training from its current state to the end."""

from collections.abc import Callable
from dataclasses import replace

from blocknerf.blocks.plan import BlockSpec, planned_split
from blocknerf.blocks.surface import tiles_of_block
from blocknerf.core.logging import log
from blocknerf.core.types import Exposures
from blocknerf.models.block_file import is_finished, read_block
from blocknerf.models.block_meta import ModelMeta
from blocknerf.models.block_nerf import BlockNeRF, load_block
from blocknerf.runtime.process_group import ALONE, ProcessGroup
from blocknerf.scene.exposures import scene_exposures
from blocknerf.scene.observed_points import observed_points
from blocknerf.scene.store import ImageStore
from blocknerf.training.block.checkpoint import CheckpointProvenance, read_checkpoint_meta
from blocknerf.training.block.inputs import BlockInputs
from blocknerf.training.block.neighbour_targets import SharedBorders
from blocknerf.training.block.trainer import BlockNeRFTrainer, BlockResult, Progress
from blocknerf.training.block.warmup import warmup
from blocknerf.training.joint.borders import borders_of
from blocknerf.training.joint.learned_neighbours import LearnedNeighbours
from blocknerf.training.run.run import Run
from blocknerf.training.run.update import grown_block
from blocknerf.training.run.waves import wave_of_each


def train_one(
    run: Run,
    block: BlockSpec,
    store: ImageStore,
    should_stop: Callable[[], bool],
    report: Callable[[Progress], None],
    group: ProcessGroup = ALONE,
) -> BlockResult:
    """Trains one block to its end, from its checkpoint if it has one; KeyboardInterrupt if `should_stop` is True."""
    trainer = make_trainer(run, block, store, report, group, learned_neighbours(run, block, store))
    warmup(store, trainer.image_ids, run.config)
    if trainer.resume():
        log.info("Block %s resumes at step %d.", block.id, trainer.step)
    log.info("Training block %s on %d images.", block.id, len(trainer.image_ids))
    result = trainer.train(should_stop)
    log_result(result)
    run.push_block(block.id)
    return result


def make_trainer(
    run: Run,
    block: BlockSpec,
    store: ImageStore,
    report: Callable[[Progress], None] = lambda progress: None,
    group: ProcessGroup = ALONE,
    neighbours: SharedBorders | None = None,
) -> BlockNeRFTrainer:
    """The trainer of a block at its beginning: with a new model or, in an update, with what it has learned."""
    return BlockNeRFTrainer(
        block_inputs(run, block, store),
        run.folders(block.id),
        run.devices[0],
        group,
        neighbours,
        on_progress=report,
        on_save=lambda: run.push_block(block.id),
    )


def block_inputs(run: Run, block: BlockSpec, store: ImageStore) -> BlockInputs:
    """The inputs of a block of the run."""
    manager = run.config.block_manager
    learned = grown_block(run.block_folder(block.id), block, store) if run.update else None
    begun = _begun_with(run, block, store) if learned is None else learned.description()
    by_surface = manager.divide_by == "surface"
    inputs = _inputs_of_any_state(run, block, store)
    uses_points = run.config.training.point_loss_weight > 0
    return replace(
        inputs,
        exposures=_exposures(run, begun),
        tiles=tiles_of_block(run.scene, run.plan, block, manager.block_size / 2) if by_surface else None,
        points=observed_points(run.scene, store, inputs.image_ids) if uses_points else None,
        pose_groups=None if begun is None else begun.known_pose_groups,
        learned=learned,
        blocks_at_once=run.at_once,
    )


def learned_neighbours(run: Run, block: BlockSpec, store: ImageStore) -> LearnedNeighbours | None:
    """The neighbours of an earlier wave, with which the block should agree; None if there is nothing to compare.

    Raises UserError if the file of one of them is damaged.
    """
    wave = wave_of_each(run.plan)
    earlier = [run.plan.block(name) for name in block.neighbours if wave[name] < wave[block.id]]
    if run.config.training.consistency_loss_weight == 0 or not earlier:
        return None
    run.pull(*(run.block_folder(neighbour.id) for neighbour in earlier))
    finished = [neighbour for neighbour in earlier if is_finished(run.block_folder(neighbour.id))]
    missing = [neighbour.id for neighbour in earlier if neighbour not in finished]
    if missing:
        log.warning(
            "Block %s cannot learn to agree with block %s, which is not trained (training.consistency_loss_weight). "
            "Train that block first.",
            block.id,
            ", ".join(missing),
        )
    borders = borders_of([block], finished, store)
    models = {border.neighbour_of(block).id: read_model(run, border.neighbour_of(block).id) for border in borders}
    if not models:
        return None
    log.info("Block %s learns to agree with block %s.", block.id, ", ".join(models))
    return LearnedNeighbours(run.config, block, models, borders, store)


def read_model(run: Run, block_id: str) -> BlockNeRF:
    """What a block has learned. Raises UserError if its file is damaged."""
    return load_block(read_block(run.block_folder(block_id), "latest"))


def provenance_of(run: Run, block: BlockSpec, store: ImageStore) -> CheckpointProvenance:
    """What a state of this block must have been made from."""
    return _inputs_of_any_state(run, block, store).provenance


def _inputs_of_any_state(run: Run, block: BlockSpec, store: ImageStore) -> BlockInputs:
    """Inputs that do not depend on what the block has learned."""
    return BlockInputs(run.config, block, store, run.plan.scene_hash, run.plan.earlier_scene_hashes)


def log_result(result: BlockResult) -> None:
    """Logs the result of a block's training."""
    psnr = "not validated" if result.val_psnr is None else f"validation PSNR {result.val_psnr:.2f} dB"
    log.info(
        "Block %s: %d steps in %.0f s, %.0f rays/s, %s.",
        result.block_id,
        result.steps,
        result.train_s,
        result.rays_per_s,
        psnr,
    )


def _begun_with(run: Run, block: BlockSpec, store: ImageStore) -> ModelMeta | None:
    """The description of the model in the block's checkpoint; None if it has none."""
    meta = read_checkpoint_meta(run.checkpoint_folder(block.id), provenance_of(run, block, store))
    return None if meta is None else meta.model


def _exposures(run: Run, begun: ModelMeta | None) -> Exposures | None:
    """Exposures of the scene, or those with which the block began: 0 stops keep their meaning when the scene grows."""
    if begun is not None:
        return begun.exposures
    return run.exposures or scene_exposures(planned_split(run.plan, run.scene)[0])
