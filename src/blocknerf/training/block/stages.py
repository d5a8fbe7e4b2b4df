"""Training in stages, from coarse to fine: which of them a block is in, and what that means."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate

from blocknerf.core.config.config import Config
from blocknerf.core.config.stages import StageConfig
from blocknerf.core.config.training import TrainingConfig
from blocknerf.core.errors import UserError
from blocknerf.core.logging import log
from blocknerf.scene.levels import pyramid
from blocknerf.scene.scene import Scene


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

    def __init__(
        self, config: TrainingConfig, level_of: Callable[[int | None], int], steps_per_epoch: Callable[[int], int]
    ):
        """`level_of` takes the resolution of a stage, `steps_per_epoch` a level of the image store.

        Raises UserError where a stage lets nothing learn.
        """
        self.enabled = config.stage_training.enable
        chosen = config.stage_training.stages if self.enabled else (StageConfig(name="all", epochs=config.num_epochs),)
        if self.enabled:
            for stage in chosen:
                _check_something_learns(stage, config)
        levels = [level_of(stage.resolution) for stage in chosen]
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


def say_stages_above(config: Config, scene: Scene) -> None:
    """Names stages whose resolution is above the images of a scene: they are trained at the images' own size."""
    downsample, staged = config.dataset.image_downsample, config.training.stage_training
    longest_px = max(max(size) for size in pyramid(scene.cameras, downsample)[0].values())
    above = [stage for stage in staged.stages if staged.enable and (stage.resolution or 0) > longest_px]
    if above:
        log.info(
            "Images have at most %d pixels on their longer side at dataset.image_downsample=%d, and stages of a higher "
            "resolution train at that: %s.",
            *(longest_px, downsample, ", ".join(f"{stage.name} ({stage.resolution})" for stage in above)),
        )


def _check_something_learns(stage: StageConfig, config: TrainingConfig) -> None:
    if not set(stage.components) & set(config.components):
        raise UserError(
            f"Nothing learns in stage {stage.name!r} of training.stage_training: {', '.join(stage.components)} is "
            "switched off by training.use_... keys. Give it another component, or switch one on."
        )
