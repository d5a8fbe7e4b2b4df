"""The keys of the `mlp` backbone."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from blocknerf.core.config.backbone import BackboneConfig
from blocknerf.core.config.section import CHOSEN, DensityActivation, RgbActivation, Samples


class MipNerfKeys(BackboneConfig):
    """The section `block_nerf` with `backbone: mlp`."""

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
    num_samples_fine: Annotated[Samples, CHOSEN] = 128
    """Samples along a ray, placed where the first samples found matter."""
    use_hierarchical_sampling: bool = True
    """If false, only the first samples are used."""
    density_activation: DensityActivation = "softplus"
    """Function that makes density positive."""
    rgb_activation: RgbActivation = "sigmoid"
    """`padded_sigmoid` (mip-NeRF) reaches slightly beyond black and white."""

    @model_validator(mode="after")
    def _skips_join_a_layer(self) -> "MipNerfKeys":
        late = [layer for layer in self.skip_connections if layer > self.num_layers - 2]
        if late:
            raise ValueError(
                f"skip_connections {late} lead nowhere: with num_layers {self.num_layers} a layer follows on layers "
                f"0 to {self.num_layers - 2}"
            )
        return self
