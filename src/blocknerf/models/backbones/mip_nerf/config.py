"""The keys of the `mlp` backbone, and its answers to the program."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from blocknerf.core.config.backbone import BackboneConfig, StepCost, lowered, register_backbone
from blocknerf.core.config.effects import Need
from blocknerf.core.config.section import DensityActivation, RgbActivation, Samples


@register_backbone
class MipNerfConfig(BackboneConfig):
    """`backbone: mlp`: the paper's mip-NeRF. On a CPU it is 20 to 400 times slower than `hash`, depending on its width.

    If `backbone` is not given, any of num_layers, skip_connections, pos_encoding_levels and use_integrated_pos_enc
    implies it.
    """

    backbone: Literal["mlp"] = "mlp"
    """The kind of field."""
    hidden_dim: Annotated[int, Field(ge=8, le=1024)] = 256
    """Width of the layers before density. The colour head is always 3 x 128."""
    num_layers: Annotated[int, Field(ge=2, le=32)] = 8
    """Number of layers before density."""
    skip_connections: tuple[Annotated[int, Field(ge=0)], ...] = (4,)
    """Layers, counted from 0, after which the encoded position is appended again."""
    pos_encoding_levels: Annotated[int, Field(ge=1, le=16)] = 10
    """Octaves of the position encoding. The first has a period of 2 pi block radii."""
    use_integrated_pos_enc: bool = True
    """Encodes the piece of a pixel's cone that a sample covers. If false, only its middle."""
    dir_encoding_levels: Annotated[int, Field(ge=1, le=4)] = 4
    """Octaves of the encoding of the viewing direction."""
    num_samples_fine: Samples = 128
    """Samples along a ray, placed where the first samples found matter."""
    use_hierarchical_sampling: bool = True
    """If false, only the first samples are used."""
    density_activation: DensityActivation = "softplus"
    """Function that makes density positive."""
    rgb_activation: RgbActivation = "sigmoid"
    """`padded_sigmoid` (mip-NeRF) reaches slightly beyond black and white."""

    losses: ClassVar = ("coarse_rgb",)
    implied_by: ClassVar = ("num_layers", "skip_connections", "pos_encoding_levels", "use_integrated_pos_enc")
    defaults_elsewhere: ClassVar = {"training": {"nerf_lr": 5e-4, "rgb_l1_share": 0.1, "rgb_ssim_share": 0.1}}
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

    @model_validator(mode="after")
    def _skips_join_a_layer(self) -> "MipNerfConfig":
        late = [layer for layer in self.skip_connections if layer > self.num_layers - 2]
        if late:
            raise ValueError(
                f"skip_connections {late} lead nowhere: with num_layers {self.num_layers} a layer follows on layers "
                f"0 to {self.num_layers - 2}"
            )
        return self

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
