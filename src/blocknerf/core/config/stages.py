"""Stages of training."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from blocknerf.core.config.section import Count, Positive, Samples, Section

Component = Literal["nerf", "appearance", "pose", "visibility"]


class StageConfig(Section):
    """One of the stages that a block learns in."""

    name: Annotated[str, Field(min_length=1)]
    """What logs and plots call the stage."""
    epochs: Positive
    """Passes over the training pixels as large as this stage sees them."""
    resolution: Count | None = None
    """Images have at most this many pixels on their longer side; smaller ones, and with none all of them, stay as
    dataset.image_downsample leaves them."""
    num_samples: Samples | None = None
    """Samples of the field along a ray; none: those of block_nerf."""
    components: Annotated[tuple[Component, ...], Field(min_length=1)] = ("nerf", "appearance", "pose", "visibility")
    """What learns; all else stays bit for bit as it is."""


class StageTraining(Section):
    """Training in stages, from coarse to fine."""

    enable: bool = False
    """Trains in stages, in place of one run of training.num_epochs."""
    stages: tuple[StageConfig, ...] = ()
    """In the order in which they are trained."""

    @property
    def resolutions(self) -> tuple[int | None, ...]:
        """Different ones that a run trains at."""
        return tuple(dict.fromkeys(stage.resolution for stage in self.stages)) if self.enable else (None,)

    @model_validator(mode="after")
    def _there_is_a_stage(self) -> "StageTraining":
        if self.enable and not self.stages:
            raise ValueError("enable is true, but stages is empty; give at least one stage, or set enable to false")
        return self
