"""The keys of the `hash` backbone, and what the program asks of it."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from blocknerf.core.config.backbone import BackboneConfig, StepCost, lowered, register_backbone
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


@register_backbone
class HashConfig(BackboneConfig):
    """`backbone: hash`: a hash grid with small networks, learned in minutes."""

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
