"""How a block is trained."""

from itertools import pairwise
from typing import Annotated, Any, get_args

from pydantic import Field, field_validator, model_validator

from blocknerf.core.config.section import CHANGEABLE, Count, NotNegative, Positive, Section
from blocknerf.core.config.stages import Component, StageTraining


class TrainingConfig(Section):
    num_epochs: Annotated[Positive, CHANGEABLE] = 5
    """Passes over a block's training pixels."""
    max_steps: Annotated[Count | None, CHANGEABLE] = None
    """Steps of a block; ends it when it comes before num_epochs."""
    max_minutes: Annotated[Positive | None, CHANGEABLE] = None
    """Training time of a block by the clock, evaluation not counted; ends the block when it comes before num_epochs.
    Where N blocks are trained at once and share the cores, each may take N times as long."""
    seed: Annotated[int, Field(ge=0)] = 42
    """Everything random follows from it: the same seed gives the same bytes on the same machine."""
    nerf_lr: Annotated[Positive, CHANGEABLE] = 2e-2
    """Learning rate of the field: tables and networks."""
    appearance_lr: Annotated[Positive, CHANGEABLE] = 1e-3
    """Lower than nerf_lr: codes that learn as fast as colours explain what every image shows instead of its light."""
    pose_lr: Annotated[Positive, CHANGEABLE] = 6e-3
    """Of offsets as shares of their bounds."""
    visibility_lr: Positive = 2e-3
    """Learning rate of the visibility network."""
    lr_warmup_steps: Annotated[int, Field(ge=0)] = 100
    """Steps in which the rate of the field rises from nothing."""
    lr_final_ratio: Annotated[float, Field(gt=0, le=1)] = 0.05
    """The rates fall exponentially to this share of their start over the run, where lr_decay_steps is empty."""
    lr_decay_steps: tuple[Positive, ...] = ()
    """Milestones, in epochs; a run that max_steps or max_minutes ends sooner reaches them sooner, by the same share.
    With any, pose_lr falls by lr_decay_rate at each of them, and the other rates smoothly by as much over the run:
    exponentially, appearance_lr along a cosine."""
    lr_decay_rate: Annotated[float, Field(gt=0, le=1)] = 0.1
    """By how much each of lr_decay_steps multiplies the rates."""
    nerf_lr_decay: Annotated[float, Field(gt=0, le=1)] | None = None
    """By how much every epoch multiplies nerf_lr; none: as lr_final_ratio or lr_decay_steps say."""
    appearance_cosine_cycles: Positive | None = None
    """Epochs in which appearance_lr falls to appearance_min_lr along half a cosine, and rises again after. None: the
    whole run, where appearance_min_lr is given, else as lr_final_ratio or lr_decay_steps say."""
    appearance_min_lr: Positive | None = None
    """The lowest appearance_lr on that cosine; none: nearly nothing."""
    pose_milestones: tuple[Positive, ...] = ()
    """Epochs at each of which pose_lr_decay multiplies pose_lr; none: as lr_final_ratio or lr_decay_steps say."""
    pose_lr_decay: Annotated[float, Field(gt=0, le=1)] = 0.1
    """By how much each of pose_milestones multiplies pose_lr."""
    weight_decay: NotNegative = 1e-6
    """Pulls the networks' weights (not the tables) towards zero."""
    gradient_clip_norm: Positive = 10.0
    """The gradients of the networks, of codes, of poses and of the visibility network are each shortened to this length
    where they are longer. Tables have no bound: Adam's steps there do not depend on it."""
    rgb_loss_weight: NotNegative = 1.0
    """Of the difference in colour."""
    rgb_l1_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the absolute error in the rgb term. What the two shares leave is the squared error, that of PSNR."""
    rgb_ssim_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of 1 - SSIM, on patches, in the rgb term."""
    depth_loss_weight: NotNegative = 0.1
    """Distance against depth maps, where dataset.use_depth reads any."""
    consistency_loss_weight: NotNegative = 0.0
    """Colour and distance against a neighbouring block's, on rays that both render. Neighbours are then trained one
    after the other, or at the same time with --side-by-side. 0.05 is enough; the documents' 0.5 costs sharpness."""
    regularization_weight: NotNegative = 0.0
    """Sum of squared weights of the networks, density without ripples, codes near zero; the documents' is 1e-6."""
    interlevel_loss_weight: NotNegative = 1.0
    """hash: the proposal grid learns where the field has found matter."""
    coarse_loss_weight: NotNegative = 0.1
    """mlp: the colour of the first samples alone, beside that of the fine ones (mip-NeRF)."""
    distortion_loss_weight: NotNegative = 3e-4
    """Of the term that keeps a ray's weights together (Barron et al. 2022, equation 15)."""
    appearance_loss_weight: NotNegative = 1e-4
    """Pulls codes towards their drive's global one, or without those to zero, so that their mean stays meaningful."""
    visibility_loss_weight: NotNegative = 1e-6
    """The paper's. Adam does not mind how small a gradient is, and this one reaches the visibility network alone."""
    use_appearance_embedding: bool = True
    """Colour is told a learned code of each photograph: its hour, weather and white balance."""
    use_exposure_encoding: bool = True
    """Colour is told each photograph's exposure, where the scene knows it; `--exposure` then moves it."""
    use_pose_refinement: bool = False
    """Poses are learned as well, within the bounds of pose_refinement."""
    use_visibility_network: bool = True
    """Each block learns what it has seen; selection and blending ask it."""
    use_mixed_precision: bool = False
    """Networks multiply in half precision: float16 with a scaled loss on CUDA; bfloat16 on a processor that has it,
    which the kernels of the hash backbone have no use for."""
    use_gradient_checkpointing: bool = False
    """Activations are computed again in backward instead of kept: a part of the memory, and more time."""
    memory_limit_gb: Positive | None = None
    """A step is taken in parts small enough that the process stays below this, if it can; none: in one part. Their
    gradients are added up, so that a step is always of batch_size rays. Where distributed.device_map puts networks on
    CUDA devices, it is the memory of those."""
    ram_budget_gb: Positive | None = None
    """How much of a block's decoded pixels are in memory at a time; where there are more, training draws from a part of
    them that changes all the time. None: files are mapped, and the system decides. Not with dataset.num_rays_per_image.
    """
    checkpoint_minutes: Annotated[Positive, CHANGEABLE] = 2.0
    """A block in training is saved this often; Ctrl-C saves as well."""
    stage_training: StageTraining = StageTraining()

    @property
    def components(self) -> tuple[Component, ...]:
        """What is not switched off."""
        switched_on = {
            "nerf": True,
            "appearance": self.use_appearance_embedding,
            "pose": self.use_pose_refinement,
            "visibility": self.use_visibility_network,
        }
        return tuple(component for component in get_args(Component) if switched_on[component])

    @property
    def learned_components(self) -> tuple[Component, ...]:
        """Of `components`, those that learn in some stage."""
        stages = self.stage_training.stages if self.stage_training.enable else ()
        named = {component for stage in stages for component in stage.components}
        return tuple(component for component in self.components if component in named or not stages)

    @field_validator("lr_decay_steps", "pose_milestones", mode="before")
    @classmethod
    def _milestones_are_a_list(cls, value: Any) -> Any:
        if not isinstance(value, list | tuple):
            raise ValueError("a list of epochs is wanted, as in [100, 150]")
        return value

    @model_validator(mode="after")
    def _milestones_are_reached(self) -> "TrainingConfig":
        for name in ("lr_decay_steps", "pose_milestones"):
            milestones = getattr(self, name)
            if any(later <= earlier for earlier, later in pairwise(milestones)):
                raise ValueError(f"{name} {[*milestones]} must rise from one to the next")
            if milestones and milestones[-1] >= self.num_epochs:
                raise ValueError(
                    f"{name} has epoch {milestones[-1]:g}, which a run of num_epochs {self.num_epochs:g} never passes"
                )
        return self

    @model_validator(mode="after")
    def _rates_fall(self) -> "TrainingConfig":
        if self.appearance_min_lr is not None and self.appearance_min_lr > self.appearance_lr:
            raise ValueError(
                f"appearance_min_lr {self.appearance_min_lr:g} is above appearance_lr {self.appearance_lr:g}, from "
                "which it is to be reached"
            )
        return self

    @model_validator(mode="after")
    def _stages_take_all_epochs(self) -> "TrainingConfig":
        staged = self.stage_training
        total = sum(stage.epochs for stage in staged.stages)
        if staged.enable and abs(total - self.num_epochs) > 1e-6 * total:
            parts = " + ".join(f"{stage.epochs:g}" for stage in staged.stages)
            raise ValueError(
                f"num_epochs is {self.num_epochs:g}, but the stages take {parts} = {total:g} epochs; let both agree, "
                "and end a run sooner by max_steps or max_minutes, which all stages share"
            )
        return self

    @model_validator(mode="after")
    def _shares_are_of_one_whole(self) -> "TrainingConfig":
        if self.rgb_l1_share + self.rgb_ssim_share > 1:
            raise ValueError(
                f"rgb_l1_share {self.rgb_l1_share:g} and rgb_ssim_share {self.rgb_ssim_share:g} are more than the "
                "whole of the rgb term; together they may be 1"
            )
        return self
