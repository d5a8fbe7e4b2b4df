"""Stages of training."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from blocknerf.core.config.section import Count, Positive, Samples, Section

Component = Literal["nerf", "appearance", "pose", "visibility"]


class StageConfig(Section):
    """One training stage."""

    name: Annotated[str, Field(min_length=1)]
    """Name of the stage in logs and plots."""
    epochs: Positive
    """Passes over the training pixels, at this stage's resolution."""
    resolution: Count | None = None
    """Maximum length of an image's longer side, in pixels. Default: dataset.image_downsample only; smaller images are
    never enlarged."""
    num_samples: Samples | None = None
    """Samples of the field along a ray. Default: those of block_nerf."""
    components: Annotated[tuple[Component, ...], Field(min_length=1)] = ("nerf", "appearance", "pose", "visibility")
    """What is trained. Everything else stays unchanged, bit for bit."""


class StageTraining(Section):
    """Training in stages, from coarse to fine."""

    enable: bool = False
    """Trains in stages instead of one run of training.num_epochs."""
    stages: tuple[StageConfig, ...] = ()
    """The stages, in order."""

    @property
    def resolutions(self) -> tuple[int | None, ...]:
        """Different ones that a run trains at."""
        return tuple(dict.fromkeys(stage.resolution for stage in self.stages)) if self.enable else (None,)

    @model_validator(mode="after")
    def _require_a_stage(self) -> "StageTraining":
        if self.enable and not self.stages:
            raise ValueError("enable is true, but stages is empty; give at least one stage, or set enable to false")
        return self
