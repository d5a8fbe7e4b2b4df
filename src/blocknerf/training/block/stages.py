"""Training in stages, from coarse to fine."""

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
    """One stage, its level of the image store, and its number of steps in a run of full length."""

    config: StageConfig
    level: int
    steps: int


class ProgressiveTrainer:
    """The stages of one block. If `stage_training` is not enabled, there is one stage in which everything learns.

    A stage's share of the run is its share of all steps. `max_steps` and `max_minutes` shorten all stages equally.
    """

    def __init__(
        self, config: TrainingConfig, level_of: Callable[[int | None], int], steps_per_epoch: Callable[[int], int]
    ):
        """`level_of` takes the resolution of a stage, `steps_per_epoch` a level of the image store.

        Raises UserError if nothing learns in a stage.
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
        """Number of the stage at `fraction` in [0, 1] of the run; a border belongs to the later stage."""
        return min(sum(fraction >= end for end in self.ends), len(self.stages) - 1)

    def epoch_share(self, fraction: float) -> float:
        """Finished share of all epochs. An epoch of small images takes fewer steps than one of large images."""
        if len(self.stages) == 1:
            return fraction
        number = self.stage_at(fraction)
        begin, end = (0.0, *self.ends)[number : number + 2]
        epochs = [stage.config.epochs for stage in self.stages]
        within = min(1.0, (fraction - begin) / (end - begin))
        return (sum(epochs[:number]) + within * epochs[number]) / sum(epochs)


def say_stages_above(config: Config, scene: Scene) -> None:
    """Logs stages whose resolution is above that of the scene's images; they use the size of the images."""
    downsample, staged = config.dataset.image_downsample, config.training.stage_training
    longest_px = max(max(size) for size in pyramid(scene.cameras, downsample)[0].values())
    above = [stage for stage in staged.stages if staged.enable and (stage.resolution or 0) > longest_px]
    if above:
        log.info(
            "Images have at most %d pixels on their longer side at dataset.image_downsample=%d. Stages of a higher "
            "resolution use that size: %s.",
            longest_px,
            downsample,
            ", ".join(f"{stage.name} ({stage.resolution})" for stage in above),
        )


def _check_something_learns(stage: StageConfig, config: TrainingConfig) -> None:
    if not set(stage.components) & set(config.components):
        raise UserError(
            f"Nothing learns in stage {stage.name!r} of training.stage_training: {', '.join(stage.components)} is "
            "switched off by training.use_... keys. Add another component, or switch one on."
        )
