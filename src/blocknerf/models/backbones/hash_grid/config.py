"""The keys of the `hash` backbone, and its answers to the program."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from blocknerf.core.config.backbone import BackboneConfig, StepCost, lowered, register_backbone
from blocknerf.core.config.section import DensityActivation, RgbActivation, Section


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


@register_backbone
class HashConfig(BackboneConfig):
    """`backbone: hash`: a hash grid with small networks, trained in minutes."""

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
    hash_grid: HashGridConfig = HashGridConfig()

    worker: ClassVar = "numba"
    losses: ClassVar = ("interlevel",)
    kernels: ClassVar = (
        *("mlp.backward_three", "mlp.backward", "hash_grid.encode", "mlp.forward_three", "mlp.forward"),
        "hash_grid.encode_backward_table",
        *("proposal.density_backward", "sparse_adam.step", "proposal.density", "marching.distances"),
        *("compositing.weights_backward", "compositing.accumulate_backward", "intervals.interlevel"),
        *("compositing.accumulate", "marching.unit_cube_points", "compositing.weights", "intervals.resample"),
        *("intervals.distortion", "log_density.density", "log_density.density_backward"),
    )

    def field(self, code_dim, spacing, white_background, rng):
        from blocknerf.models.backbones.hash_grid.field import HashField

        return HashField(self, code_dim, spacing, white_background, rng)

    def cost(self, code_dim: int) -> StepCost:
        from blocknerf.models.backbones.hash_grid.cost import cost

        return cost(self)

    def for_debug(self) -> "HashConfig":
        grid = lowered(self.hash_grid, num_levels=4, log2_table_rows=10, finest_resolution=128)
        small = lowered(self, hidden_dim=32, num_samples_coarse=16, num_samples_fine=8, proposal_resolution=32)
        return self.model_copy(update={**small, "hash_grid": self.hash_grid.model_copy(update=grid)})

    def for_warmup(self) -> "HashConfig":
        grid = HashGridConfig(log2_table_rows=8)
        return HashConfig(hidden_dim=8, num_samples_fine=4, proposal_resolution=8, hash_grid=grid)
