"""Training in stages, from coarse to fine: which of them a block is in, and what that means."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate

from blocknerf.core.config import StageConfig, TrainingConfig
from blocknerf.core.errors import UserError
from blocknerf.scene.store import level_of_stage


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage, with the level of the image store that it draws from and its steps in a run of full length."""

    config: StageConfig
    level: int
    steps: int


class ProgressiveTrainer:
    """The stages of one block; where `stage_training` is not enabled, one stage in which everything learns.

    A stage's share of the run is its share of all steps. `max_steps` and `max_minutes` shorten all stages alike.
    """

    def __init__(self, config: TrainingConfig, longer_sides: list[int], steps_per_epoch: Callable[[int], int]):
        """`longer_sides`: of the block's largest image, in pixels, by level; `steps_per_epoch` takes a level.

        Raises UserError where a stage wants larger images than there are, or lets nothing learn.
        """
        self.enabled = config.stage_training.enable
        chosen = config.stage_training.stages if self.enabled else (StageConfig(name="all", epochs=config.num_epochs),)
        if self.enabled:
            for stage in chosen:
                _check_something_learns(stage, config)
        levels = [level_of_stage(stage, longer_sides) for stage in chosen]
        steps = {level: steps_per_epoch(level) for level in dict.fromkeys(levels)}
        self.stages = tuple(
            Stage(stage, level, math.ceil(stage.epochs * steps[level]))
            for stage, level in zip(chosen, levels, strict=True)
        )
        self.total_steps = sum(stage.steps for stage in self.stages)
        self.ends = tuple(end / self.total_steps for end in accumulate(stage.steps for stage in self.stages))
        """Shares of the run."""

    def stage_at(self, fraction: float) -> int:
        """Number of the stage when `fraction` in [0, 1] of the run is behind; a border belongs to the later stage."""
        return min(sum(fraction >= end for end in self.ends), len(self.stages) - 1)

    def epoch_share(self, fraction: float) -> float:
        """The share of all epochs that is behind: an epoch of small images takes fewer steps than one of large ones."""
        if len(self.stages) == 1:
            return fraction
        number = self.stage_at(fraction)
        begin, end = (0.0, *self.ends)[number : number + 2]
        epochs = [stage.config.epochs for stage in self.stages]
        within = min(1.0, (fraction - begin) / (end - begin))
        return (sum(epochs[:number]) + within * epochs[number]) / sum(epochs)


def _check_something_learns(stage: StageConfig, config: TrainingConfig) -> None:
    if not set(stage.components) & set(config.components):
        raise UserError(
            f"Nothing learns in stage {stage.name!r} of training.stage_training: {', '.join(stage.components)} is "
            "switched off by training.use_... keys. Give it another component, or switch one on."
        )
