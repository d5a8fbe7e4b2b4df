"""Batches of a block, from the image level of the current training stage."""

import math

from blocknerf.core.logging import log
from blocknerf.core.seeds import derive_seed
from blocknerf.runtime.process_group import ProcessGroup
from blocknerf.scene.sampler import PixelBatch, PixelSampler
from blocknerf.scene.stage_levels import stage_level
from blocknerf.training.block.inputs import BlockInputs
from blocknerf.training.block.stages import ProgressiveTrainer, Stage

POINT_SHARE = 0.125
"""Of a batch, if sparse points are known."""


class StagedSampler:
    """The stages of a block, the current one, and its sampler."""

    def __init__(self, inputs: BlockInputs, group: ProcessGroup):
        self._inputs, self._group = inputs, group
        self.stages = ProgressiveTrainer(
            inputs.config.training,
            lambda resolution: stage_level(inputs.store, resolution),
            lambda level: _steps_per_epoch(self._sampler(level, 0)),
        )
        self.enter(0, step=0)

    @property
    def stage(self) -> Stage:
        return self.stages.stages[self.number]

    @property
    def components(self) -> tuple[str, ...]:
        """Components that learn in the current stage."""
        return self.stage.config.components

    @property
    def steps_per_epoch(self) -> int:
        return _steps_per_epoch(self.sampler)

    def is_due(self, fraction: float) -> bool:
        """Whether a later stage begins at `fraction` of the run.

        Never an earlier one: with a longer budget, `fraction` of a resumed block may fall into a finished stage.
        """
        return self.stages.stage_at(fraction) > self.number

    def enter(self, number: int, step: int) -> None:
        """Begins stage `number`, at the first pixel of its level. `step` is for the log."""
        self.number = number
        self.sampler = self._sampler(self.stage.level, number)
        self._announce(step)

    def next(self, step: int) -> PixelBatch:
        """This process's share of the batch of `step`."""
        dataset = self._inputs.config.dataset
        batch = self.sampler.next(dataset.precrop_frac if step < dataset.precrop_iters else 1.0)
        return batch.part(self._group.rank, self._group.size)

    def _announce(self, step: int) -> None:
        inputs = self._inputs
        if self.sampler.resident_share < 1:
            log.info(
                "Block %s has more pixels than training.ram_budget_gb=%g; %.2g %% of them are in memory at a time.",
                inputs.spec.id,
                inputs.config.training.ram_budget_gb,
                100 * self.sampler.resident_share,
            )
        if self.stages.enabled:
            log.info(
                "Block %s, step %d: stage %r, images of up to %d pixels a side, learns %s.",
                inputs.spec.id,
                step,
                self.stage.config.name,
                inputs.store.longer_side(inputs.image_ids, self.stage.level),
                ", ".join(self.components),
            )

    def _sampler(self, level: int, stage: int) -> PixelSampler:
        inputs, config = self._inputs, self._inputs.config
        dataset, seed, budget_gb = config.dataset, config.training.seed, config.training.ram_budget_gb
        return PixelSampler(
            inputs.store,
            inputs.image_ids,
            dataset.batch_size * self._group.size,
            seed if stage == 0 else derive_seed(seed, "stage", stage),
            level,
            inputs.tiles,
            patch_size=dataset.patch_size if config.needs_patches else 0,
            patch_share=dataset.patch_share,
            rays_per_image=dataset.num_rays_per_image,
            budget_bytes=None if budget_gb is None else int(budget_gb * 1e9),
            points=inputs.points,
            point_share=POINT_SHARE,
        )


def _steps_per_epoch(sampler: PixelSampler) -> int:
    return math.ceil(sampler.pixels_per_pass / sampler.batch_size)
