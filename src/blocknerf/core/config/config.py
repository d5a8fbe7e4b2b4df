"""The whole configuration: its sections and the rules between them."""

from typing import Annotated, Any

from pydantic import Field, model_validator

from blocknerf.core.config.appearance import AppearanceConfig
from blocknerf.core.config.backbone import (
    BackboneConfig,
    OneOfBackbones,
    backbone_named,
    first_backbone,
    keys_of_others,
    meant_backbone,
)
from blocknerf.core.config.block_manager import BlockManagerConfig
from blocknerf.core.config.city import CityConfig
from blocknerf.core.config.dataset import DatasetConfig
from blocknerf.core.config.distributed import DistributedConfig
from blocknerf.core.config.exposure import ExposureConfig
from blocknerf.core.config.logging import LoggingConfig
from blocknerf.core.config.output import OutputConfig
from blocknerf.core.config.pose_refinement import PoseRefinementConfig
from blocknerf.core.config.section import CHANGEABLE, Section
from blocknerf.core.config.training import TrainingConfig
from blocknerf.core.config.validation import ValidationConfig
from blocknerf.core.config.visibility_network import VisibilityConfig


class Config(Section):
    """All settings of a run. The same file trains, renders and evaluates."""

    dataset: DatasetConfig = DatasetConfig()
    block_manager: BlockManagerConfig = BlockManagerConfig()
    block_nerf: Annotated[BackboneConfig, OneOfBackbones()] = Field(default_factory=lambda: first_backbone()())
    appearance_embedding: AppearanceConfig = AppearanceConfig()
    exposure_encoding: ExposureConfig = ExposureConfig()
    pose_refinement: PoseRefinementConfig = PoseRefinementConfig()
    visibility_network: VisibilityConfig = VisibilityConfig()
    training: TrainingConfig = TrainingConfig()
    validation: Annotated[ValidationConfig, CHANGEABLE] = ValidationConfig()
    logging: Annotated[LoggingConfig, CHANGEABLE] = LoggingConfig()
    output: Annotated[OutputConfig, CHANGEABLE] = OutputConfig()
    city: Annotated[CityConfig, CHANGEABLE] = CityConfig()
    distributed: DistributedConfig = DistributedConfig()

    @property
    def needs_patches(self) -> bool:
        """Whether a term of the loss needs neighbouring pixels."""
        settings = self.training
        compares_windows = settings.rgb_loss_weight > 0 and settings.rgb_ssim_share > 0
        return compares_windows or (self.dataset.use_depth and settings.depth_loss_weight > 0)

    @model_validator(mode="after")
    def _a_batch_has_room_for_a_patch(self) -> "Config":
        size, batch_size = self.dataset.patch_size, self.dataset.batch_size
        if self.needs_patches and size**2 > batch_size:
            raise ValueError(
                f"SSIM and depth are learned on patches of {size} x {size} pixels (dataset.patch_size), more than the "
                f"{batch_size} rays of a step (dataset.batch_size); make one smaller or the other larger, or set "
                "training.rgb_ssim_share to 0 and dataset.use_depth to false"
            )
        return self

    @model_validator(mode="after")
    def _a_batch_mixes_what_is_in_memory(self) -> "Config":
        if self.training.ram_budget_gb is not None and self.dataset.num_rays_per_image is not None:
            raise ValueError(
                "training.ram_budget_gb draws batches from all pixels in memory, and dataset.num_rays_per_image from a "
                "few images anywhere; give one of them"
            )
        return self

    @model_validator(mode="after")
    def _something_is_learned(self) -> "Config":
        settings, field = self.training, self.block_nerf
        coarse = field.learns_from_first_samples and settings.coarse_loss_weight > 0
        depth = self.dataset.use_depth and settings.depth_loss_weight > 0
        if not (settings.rgb_loss_weight > 0 or coarse or depth):
            raise ValueError(
                "the weights of all terms that compare a block with its photographs are zero; give "
                "training.rgb_loss_weight (usually 1) or, with dataset.use_depth, training.depth_loss_weight"
            )
        return self

    @property
    def white_background(self) -> bool:
        """Whether rays that leave the scene end in white."""
        return self.dataset.white_background or self.block_nerf.white_background or self.dataset.alpha == "white"

    @model_validator(mode="after")
    def _rays_end_in_what_pictures_end_in(self) -> "Config":
        if self.white_background and self.dataset.alpha == "black":
            raise ValueError("dataset.alpha black puts pictures on black, but with white_background rays end in white")
        return self

    @model_validator(mode="before")
    @classmethod
    def _of_its_backbone(cls, tree: Any) -> Any:
        """Fills in the implied backbone and its defaults, and drops keys that only other backbones have."""
        if not isinstance(tree, dict):
            return tree
        section = tree.get("block_nerf", {})
        if isinstance(section, BackboneConfig):
            defaults = section.section_defaults
        elif isinstance(section, dict):
            others = keys_of_others(section)
            section = {"backbone": meant_backbone(section)} | {k: v for k, v in section.items() if k not in others}
            backbone = backbone_named(section["backbone"])
            defaults = {} if backbone is None else backbone.section_defaults
        else:
            return tree
        sections = {name: tree.get(name, {}) for name in defaults}
        given = {name: defaults[name] | values for name, values in sections.items() if isinstance(values, dict)}
        return tree | given | {"block_nerf": section}
