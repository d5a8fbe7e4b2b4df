"""The radiance field of a block."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from blocknerf.core.config.section import Positive, Samples, Section

DensityActivation = Literal["exp", "softplus", "relu"]
RgbActivation = Literal["sigmoid", "padded_sigmoid"]


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


class FieldConfig(Section):
    """The radiance field of one block, and how many samples a ray takes in it.

    Where `backbone` is `mlp`, keys that are not given have the defaults of MLP_DEFAULTS. Where it is not given, but one
    of MLP_KEYS is, it is `mlp`.
    """

    backbone: Literal["hash", "mlp"] = "hash"
    """`hash`: a hash grid with small networks, learned in minutes. `mlp`: the paper's mip-NeRF, 20 to 400 times
    slower on a processor, by its width."""
    white_background: bool = False
    """The same as dataset.white_background: white where either says so."""
    hidden_dim: Annotated[int, Field(ge=8, le=1024)] = 64
    """Width of the networks; the colour head of `mlp` is 3 x 128 whatever this is."""
    num_layers: Annotated[int, Field(ge=2, le=32)] = 8
    """mlp: layers before density."""
    skip_connections: tuple[Annotated[int, Field(ge=0)], ...] = (4,)
    """mlp: layers, counted from 0, after which the encoded position joins again."""
    pos_encoding_levels: Annotated[int, Field(ge=1, le=16)] = 10
    """mlp: octaves of the encoding of positions, from a period of 2 pi block radii down."""
    use_integrated_pos_enc: bool = True
    """mlp: encodes the piece of a pixel's cone that a sample stands for; false: only its middle."""
    dir_encoding_levels: Annotated[int, Field(ge=1, le=4)] = 4
    """hash: spherical harmonics of the viewing direction up to this degree (exclusive); mlp: octaves."""
    num_samples_coarse: Samples = 64
    """First samples along a ray: of the proposal grid (hash), or of the network itself (mlp)."""
    num_samples_fine: Samples = 12
    """Samples of the field along a ray, placed where the first ones saw matter."""
    use_hierarchical_sampling: bool = True
    """mlp: false takes the first samples only."""
    perturb_samples: bool = True
    """Samples are drawn at random within their strata while training; else they lie in the middle."""
    density_activation: DensityActivation = "exp"
    """How density is made positive."""
    rgb_activation: RgbActivation = "sigmoid"
    """`padded_sigmoid` (mip-NeRF) reaches a little beyond black and white."""
    proposal_resolution: Annotated[int, Field(ge=8, le=512)] = 128
    """Cells across the contracted cube of the proposal's density grid."""
    near_m: Positive | None = None
    """Rays begin here; none: a hundredth of the block's radius."""
    far_m: Positive | None = None
    """Rays end here; none: a hundred times the block's radius."""
    hash_grid: HashGridConfig = HashGridConfig()

    @model_validator(mode="after")
    def _near_is_before_far(self) -> "FieldConfig":
        if self.near_m is not None and self.far_m is not None and self.near_m >= self.far_m:
            raise ValueError(f"near_m {self.near_m:g} must be less than far_m {self.far_m:g}")
        return self

    @property
    def worker(self) -> Literal["numba", "torch"]:
        """Which of the two does most of a block's arithmetic, and is to have the cores."""
        return "torch" if self.backbone == "mlp" else "numba"

    @model_validator(mode="after")
    def _skips_join_a_layer(self) -> "FieldConfig":
        late = [layer for layer in self.skip_connections if layer > self.num_layers - 2]
        if late:
            raise ValueError(
                f"skip_connections {late} lead nowhere: with num_layers {self.num_layers} a layer follows on layers "
                f"0 to {self.num_layers - 2}"
            )
        return self

    @model_validator(mode="after")
    def _hash_is_hierarchical(self) -> "FieldConfig":
        if self.backbone == "hash" and not self.use_hierarchical_sampling:
            raise ValueError("use_hierarchical_sampling can be false with backbone mlp only")
        return self
