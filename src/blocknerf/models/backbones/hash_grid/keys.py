"""The keys of the `hash` backbone."""

from typing import Annotated, Literal

from pydantic import Field

from blocknerf.core.config.backbone import BackboneConfig
from blocknerf.core.config.section import DensityActivation, NotNegative, RgbActivation, Section


class HashGridConfig(Section):
    """The multiresolution hash grid of the `hash` backbone (Mueller et al. 2022)."""

    num_levels: Annotated[int, Field(ge=1, le=24)] = 8
    """Number of grids, from coarse to fine. Each has its own table."""
    log2_table_rows: Annotated[int, Field(ge=8, le=24)] = 17
    """Rows of a table, as a power of two: 17 means 131,072."""
    base_resolution: Annotated[int, Field(ge=2)] = 16
    """Cells along each side of the contracted cube on the coarsest level."""
    finest_resolution: Annotated[int, Field(ge=4)] = 2048
    """Cells along each side of the contracted cube on the finest level. The inner half of the cube is the block."""


class HashKeys(BackboneConfig):
    """The section `block_nerf` with `backbone: hash`."""

    backbone: Literal["hash"] = "hash"
    """The kind of field."""
    hidden_dim: Annotated[int, Field(ge=8, le=1024)] = 64
    """Width of the networks."""
    dir_encoding_levels: Annotated[int, Field(ge=1, le=4)] = 4
    """Number of bands of spherical harmonics for the viewing direction (degrees 0 to N - 1)."""
    density_activation: DensityActivation = "exp"
    """Function that makes density positive."""
    rgb_activation: RgbActivation = "sigmoid"
    """`padded_sigmoid` (mip-NeRF) reaches slightly beyond black and white."""
    proposal_resolution: Annotated[int, Field(ge=8, le=512)] = 128
    """Cells along each side of the density grid that places the samples. The grid covers the contracted cube."""
    full_gradient_radii: NotNegative = 0.3
    """Distance from a camera, in block radii, from which samples learn at the full rate. Nearer ones learn at a rate
    that falls with the square of the distance, so that no fog forms in front of cameras. 0: all at the full rate."""
    hash_grid: HashGridConfig = HashGridConfig()
