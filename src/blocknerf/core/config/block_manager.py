"""Where blocks stand, and how they become one picture."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from blocknerf.core.config.section import CHANGEABLE, Count, NotNegative, Positive, Section


class BlockManagerConfig(Section):
    """Where blocks stand and which images they are given."""

    placement: Literal["grid", "drives", "junctions"] = "grid"
    """Blocks on a square `grid`; along the `drives`, one after the other; or (Block-NeRF) at `junctions`, where drives
    cross, with further blocks on long streets. Drives without any junction have their blocks along them."""
    block_size: Positive = 50.0
    """In metres: edge of a grid cell; spacing along the drives; or the longest arm of a block at a junction, so that
    streets up to twice as long have no further block."""
    streets_file: Annotated[str, Field(min_length=1)] | None = None
    """Junctions and streets from a map in place of the drives: a file of OpenStreetMap (.osm), of Overpass' JSON, or
    GeoJSON with lines. The scene must say where on Earth it lies (`geo_origin`)."""
    overlap_ratio: Annotated[float, Field(ge=0, le=1)] = 0.25
    """How far a block reaches into its neighbours, as a share of `block_size`. 0.25 is the paper's: a block covers
    three quarters of the way to its neighbour, and both cover the middle half of it."""
    min_images_per_block: Count = 10
    """Blocks with fewer training images merge into a neighbour."""
    max_blocks: Count = 100
    """More blocks than this are an error; 1 makes the whole scene one block."""
    distance_threshold: Annotated[Positive | None, CHANGEABLE] = None
    """Blocks farther from the camera than this (metres) are left out, except the nearest; none: 1.5 block sizes."""
    divide_by: Literal["camera", "surface"] = "camera"
    """How blocks share the work. `camera` (Block-NeRF): a block learns whole pictures taken in and around its cells,
    and pictures are blended by the camera's distance. `surface` (from the air): a block learns those pixels of any
    picture that show its cells, and every pixel is blended by the distance of what it shows."""
    visibility_threshold: Annotated[float, Field(ge=0, lt=1), CHANGEABLE] = 0.25
    """Blocks whose mean visibility in a picture is below this are left out (fading in up to twice this); 0: none."""
    blending: Annotated[Literal["visibility", "distance", "nearest"], CHANGEABLE] = "visibility"
    """How pictures of blocks become one where `divide_by` is `camera`. `distance` (Block-NeRF): by the camera's inverse
    distance to blocks; `visibility`: that, softened, and pixel by pixel by how well each block knows what it shows
    there; `nearest`: the nearest block alone."""
    blend_power: Annotated[NotNegative, CHANGEABLE] = 4.0
    """p of the inverse-distance weights d^-p (Block-NeRF, section 4.3: 4 in Alamo Square, 1 in Mission Bay)."""
    max_composited: Annotated[int, Field(ge=1, le=8), CHANGEABLE] = 3
    """At most this many blocks make one picture, but all that are equally near within 10 % (see city/selection.py)."""

    @model_validator(mode="after")
    def _junctions_share_pictures(self) -> "BlockManagerConfig":
        if self.placement == "junctions" and self.divide_by == "surface":
            raise ValueError(
                "blocks at junctions are given whole pictures by where the camera stands on the street; with divide_by "
                "surface, give placement grid"
            )
        if self.placement != "junctions" and self.streets_file is not None:
            raise ValueError(f"streets_file would change nothing with placement {self.placement}; give junctions")
        return self
