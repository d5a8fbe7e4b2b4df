"""The `mlp` backbone: its keys, and what the program asks of it."""

from typing import ClassVar

from blocknerf.core.config.backbone import StepCost, lowered, register_backbone
from blocknerf.core.config.effects import Need
from blocknerf.models.backbones.mip_nerf.keys import MipNerfKeys


@register_backbone
class MipNerfConfig(MipNerfKeys):
    """`backbone: mlp`: the paper's mip-NeRF, 20 to 400 times slower on a processor than `hash`, by its width.

    It is meant where `backbone` is not given, but num_layers, skip_connections, pos_encoding_levels or
    use_integrated_pos_enc is.
    """

    losses: ClassVar = ("coarse_rgb",)
    implied_by: ClassVar = ("num_layers", "skip_connections", "pos_encoding_levels", "use_integrated_pos_enc")
    section_defaults: ClassVar = {"training": {"nerf_lr": 5e-4, "rgb_l1_share": 0.1, "rgb_ssim_share": 0.1}}
    faster: ClassVar = "block_nerf.backbone=hash is 20 to 400 times faster"

    switches: ClassVar = (
        Need(
            ("block_nerf.num_samples_fine", "training.coarse_loss_weight"),
            lambda config: config.block_nerf.use_hierarchical_sampling,
            "block_nerf.use_hierarchical_sampling is false",
        ),
    )

    @property
    def learns_from_first_samples(self) -> bool:
        return self.use_hierarchical_sampling

    def field(self, code_dim, spacing, white_background, rng):
        from blocknerf.models.backbones.mip_nerf.field import MLPField

        return MLPField(self, code_dim, spacing, white_background, rng)

    def cost(self, code_dim: int) -> StepCost:
        from blocknerf.models.backbones.mip_nerf.cost import cost

        return cost(self, code_dim)

    def with_samples(self, count: int) -> "MipNerfConfig":
        if self.use_hierarchical_sampling:
            return self.model_copy(update={"num_samples_fine": count})
        return self.model_copy(update={"num_samples_coarse": count})

    def for_debug(self) -> "MipNerfConfig":
        small = lowered(self, hidden_dim=32, num_layers=4, num_samples_coarse=16, num_samples_fine=8)
        joints = tuple(layer for layer in self.skip_connections if layer <= small["num_layers"] - 2)
        return self.model_copy(update={**small, "skip_connections": joints})

    def for_warmup(self) -> "MipNerfConfig":
        return MipNerfConfig(hidden_dim=8, num_samples_fine=4)
