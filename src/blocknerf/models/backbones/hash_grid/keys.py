"""The keys of the `hash` backbone."""

from typing import Annotated, Literal

from pydantic import Field

from blocknerf.core.config.backbone import BackboneConfig
from blocknerf.core.config.section import DensityActivation, RgbActivation, Section


class HashGridConfig(Section):
    """The multiresolution hash grid of the `hash` backbone (Mueller et al. 2022)."""

    num_levels: Annotated[int, Field(ge=1, le=24)] = 8
    """Grids of rising resolution, each with a table of its own."""
    log2_table_rows: Annotated[int, Field(ge=8, le=24)] = 17
    """A table has two to this power rows."""
    base_resolution: Annotated[int, Field(ge=2)] = 16
    """Cells across the contracted cube on the coarsest level."""
    finest_resolution: Annotated[int, Field(ge=4)] = 2048
    """Cells across the contracted cube, whose inner half is the block."""


class HashKeys(BackboneConfig):
    """The section `block_nerf` with `backbone: hash`."""

    backbone: Literal["hash"] = "hash"
    """The kind of field."""
    hidden_dim: Annotated[int, Field(ge=8, le=1024)] = 64
    """Width of the networks."""
    dir_encoding_levels: Annotated[int, Field(ge=1, le=4)] = 4
    """Spherical harmonics of the viewing direction up to this degree (exclusive)."""
    density_activation: DensityActivation = "exp"
    """How density is made positive."""
    rgb_activation: RgbActivation = "sigmoid"
    """`padded_sigmoid` (mip-NeRF) reaches a little beyond black and white."""
    proposal_resolution: Annotated[int, Field(ge=8, le=512)] = 128
    """Cells across the contracted cube of the density grid that the first samples are taken of."""
    hash_grid: HashGridConfig = HashGridConfig()
