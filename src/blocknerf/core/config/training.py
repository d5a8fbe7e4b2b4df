"""How a block is trained."""

from itertools import pairwise
from typing import Annotated, Any, get_args

from pydantic import Field, field_validator, model_validator

from blocknerf.core.config.section import CHANGEABLE, CHOSEN, Count, NotNegative, Positive, Section
from blocknerf.core.config.stages import Component, StageTraining


class TrainingConfig(Section):
    """How long a block is trained, with which rates, losses and parts of the model."""

    num_epochs: Annotated[Positive, CHANGEABLE, CHOSEN] = 5
    """Passes over a block's training pixels. With `--minutes`, more than the time allows."""
    max_steps: Annotated[Count | None, CHANGEABLE] = None
    """Maximum number of steps of a block. Training stops at num_epochs or max_steps, whichever comes first."""
    max_minutes: Annotated[Positive | None, CHANGEABLE, CHOSEN] = None
    """Maximum training time of a block in minutes, without validation. Training stops at this or at num_epochs,
    whichever comes first. If N blocks share the cores, each gets N times as long."""
    seed: Annotated[int, Field(ge=0)] = 42
    """All randomness follows from it. The same seed gives the same bytes on the same machine."""
    nerf_lr: Annotated[Positive, CHANGEABLE] = 2e-2
    """Learning rate of the field: tables and networks."""
    appearance_lr: Annotated[Positive, CHANGEABLE] = 1e-3
    """Learning rate of appearance codes. Keep it below nerf_lr: fast codes explain the image's content instead of its
    light."""
    pose_lr: Annotated[Positive, CHANGEABLE] = 6e-3
    """Learning rate of pose offsets, which are learned as shares of their maximum."""
    visibility_lr: Positive = 2e-3
    """Learning rate of the visibility network."""
    lr_warmup_steps: Annotated[int, Field(ge=0)] = 100
    """Steps in which the field's rate rises from zero."""
    lr_final_ratio: Annotated[float, Field(gt=0, le=1)] = 0.05
    """Rates fall exponentially to this share of their start. Used if lr_decay_steps is empty."""
    lr_decay_steps: tuple[Positive, ...] = ()
    """Milestones in epochs. pose_lr is multiplied by lr_decay_rate at each; the other rates fall by as much, but
    smoothly over the run: exponentially, appearance_lr along a cosine. If max_steps or max_minutes ends a run sooner,
    milestones move by the same share."""
    lr_decay_rate: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Factor for the rates at each of lr_decay_steps."""
    nerf_lr_decay: Annotated[float, Field(gt=0, le=1)] | None = None
    """Factor for nerf_lr per epoch. Default: lr_final_ratio or lr_decay_steps decides."""
    appearance_cosine_cycles: Positive | None = None
    """Epochs in which appearance_lr falls to appearance_min_lr along half a cosine, then rises again. Default: the
    whole run if appearance_min_lr is given, otherwise lr_final_ratio or lr_decay_steps decides."""
    appearance_min_lr: Positive | None = None
    """Lowest appearance_lr of that cosine. Default: nearly zero."""
    pose_milestones: tuple[Positive, ...] = ()
    """Epochs at which pose_lr is multiplied by pose_lr_decay. If empty, lr_final_ratio or lr_decay_steps decides."""
    pose_lr_decay: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Factor for pose_lr at each of pose_milestones."""
    weight_decay: NotNegative = 1e-6
    """Pulls the networks' weights towards zero, but not the tables."""
    gradient_clip_norm: Positive = 10.0
    """Maximum norm of a gradient, separately for networks, codes, poses and visibility network. Tables are not clipped,
    because Adam's steps do not depend on the scale of their gradients."""
    rgb_loss_weight: NotNegative = 1.0
    """Weight of the colour error."""
    rgb_l1_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of absolute error in the colour term. The rest after both shares is squared error, which PSNR measures."""
    rgb_ssim_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of 1 - SSIM, on patches, in the colour term."""
    depth_loss_weight: NotNegative = 0.1
    """Weight of the error in distance against depth maps (needs dataset.use_depth)."""
    point_loss_weight: NotNegative = 0.01
    """Weight of the term that lets rays end in the sparse points that their images saw. It has no effect on a capture
    without such points."""
    consistency_loss_weight: NotNegative = 0.0
    """Weight of the difference in colour and distance to a neighbouring block, on rays that both render. Neighbours are
    then trained one after the other, or together with --side-by-side. 0.05 is enough; the documents' 0.5 makes pictures
    less sharp."""
    regularization_weight: NotNegative = 0.0
    """Weight of the sum of squared network weights, ripples in density, and length of codes. The documents use 1e-6."""
    interlevel_loss_weight: NotNegative = 1.0
    """Weight of the term that teaches a proposal where the field has found matter; of backbones with one, as hash."""
    coarse_loss_weight: NotNegative = 0.1
    """Weight of the colour error of the first samples (mip-NeRF); of backbones that have it, as mlp."""
    distortion_loss_weight: NotNegative = 3e-4
    """Weight of the term that keeps a ray's weights together (Barron et al. 2022, equation 15)."""
    appearance_loss_weight: NotNegative = 1e-4
    """Weight of the pull of codes towards their drive's code, or zero without one. It keeps their mean meaningful."""
    appearance_smoothness_weight: NotNegative = 1e-4
    """Weight of the difference between the codes of images that follow each other on a trajectory. Light and automatic
    exposure change slowly, so views between two images have a code between theirs."""
    visibility_loss_weight: NotNegative = 1e-6
    """Weight of the visibility term; the paper's value. It affects only the visibility network, and Adam does not
    depend on its scale."""
    use_appearance_embedding: bool = True
    """Learns a code per photograph for its hour, weather and white balance. Only colour depends on it."""
    use_exposure_encoding: bool = True
    """Colour depends on each photograph's exposure, if the scene has it. `--exposure` then changes it in renders."""
    use_pose_refinement: bool = False
    """Learns corrections of the poses, within the limits of pose_refinement."""
    use_visibility_network: bool = True
    """Learns what each block has seen. Selection and blending use it."""
    use_mixed_precision: bool = False
    """Networks multiply in half precision: float16 with a scaled loss on CUDA, bfloat16 on a CPU that has it. The CPU
    kernels of the hash backbone ignore it."""
    use_gradient_checkpointing: bool = False
    """Computes activations again in the backward pass instead of storing them: less memory, more time."""
    memory_limit_gb: Positive | None = None
    """Maximum memory of the process in GB, if possible. A step is split into parts and their gradients are added, so a
    step still has batch_size rays. With distributed.device_map on CUDA devices, it limits their memory. Default: one
    part."""
    ram_budget_gb: Positive | None = None
    """Memory in GB for a block's decoded pixels. If there are more, training draws from a part of them that changes all
    the time. Default: files are memory-mapped and the system decides. Not with dataset.num_rays_per_image."""
    checkpoint_minutes: Annotated[Positive, CHANGEABLE] = 2.0
    """Minutes between checkpoints of a block in training. Ctrl-C saves as well."""
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
