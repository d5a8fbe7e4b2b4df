"""Training for a program with its own loop: the blocks of a plan one after the other, step by step."""

import weakref
from collections.abc import Mapping

from torch import Tensor

from blocknerf.blocks.plan import BlockSpec
from blocknerf.city.manifest import manifest_of, write_manifest
from blocknerf.core.errors import UserError
from blocknerf.core.logging import log
from blocknerf.models.block_file import has_block, read_block_meta
from blocknerf.runtime.cores import available_cores
from blocknerf.runtime.threads import use_threads
from blocknerf.scene.store import ImageStore
from blocknerf.training.block.inputs import usable_images
from blocknerf.training.block.trainer import BlockNeRFTrainer
from blocknerf.training.block.warmup import warmup
from blocknerf.training.run.one_block import log_result, make_trainer
from blocknerf.training.run.run import Run


class TrainingIterator:
    """Trains the blocks of `run` from the state of its output folder, to the same bytes as `train_blocks`.

    An unfinished block resumes from its checkpoint; a finished one is skipped. `total_steps` counts those of all
    blocks, `step` those that are done. Raises UserError if a run has no number of steps because time limits it.
    """

    def __init__(self, run: Run, store: ImageStore):
        if run.config.training.max_minutes is not None:
            raise UserError(
                "training.max_minutes limits a block by time, but here steps are counted. Omit it and set "
                "training.max_steps."
            )
        use_threads(available_cores(), run.config.block_nerf.worker)
        write_manifest(run.output_dir, manifest_of(run.plan, run.config.block_manager, run.config.city))
        self.run, self.store = run, store
        finished = {block.id: _finished_steps(run, block) for block in run.plan.blocks}
        self._waiting = [block for block in run.plan.blocks if finished[block.id] is None]
        self.step = self.total_steps = sum(steps for steps in finished.values() if steps is not None)
        self.total_steps += sum(self._made(block).total_steps for block in self._waiting)
        self._trainer: BlockNeRFTrainer | None = None
        if self._waiting:
            warmup(store, usable_images(self._waiting[0], store), run.config)
        self._begin_next()

    def next(self) -> Mapping[str, Tensor]:
        """One step of the current block; returns the terms of its loss. Raises UserError if all blocks are trained."""
        trainer = self._trainer
        if trainer is None:
            raise UserError(f"All {self.total_steps} steps of this run are done: all blocks are trained.")
        terms = trainer.train_iteration()
        self.step += 1
        if trainer.fraction >= 1:
            log_result(trainer.finish())
            trainer.metrics.close()
            self._begin_next()
        return terms

    def save(self) -> None:
        """Writes the checkpoint and the weights of the current block; those of the others are already written."""
        if self._trainer is not None:
            self._trainer.save()

    def _begin_next(self) -> None:
        self._trainer = None
        if not self._waiting:
            return
        block = self._waiting.pop(0)
        self._trainer = self._made(block)
        if self._trainer.resume():
            self.step += self._trainer.step
        self._trainer.metrics.start(self._trainer.step)
        weakref.finalize(self, self._trainer.metrics.close)  # the caller's loop may end at any step
        log.info("Block %s begins at step %d, on %d images.", block.id, self._trainer.step, len(block.train_images))

    def _made(self, block: BlockSpec) -> BlockNeRFTrainer:
        return make_trainer(self.run, block, self.store)


def _finished_steps(run: Run, block: BlockSpec) -> int | None:
    """Number of steps of a finished block; None if it is not finished."""
    folder = run.block_folder(block.id)
    meta = read_block_meta(folder, "latest") if has_block(folder, "latest") else None
    return meta.step if meta is not None and meta.finished else None
