"""Where blocks stand, and how they become one picture."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from blocknerf.core.config.section import CHANGEABLE, Count, NotNegative, Positive, Section


class BlockManagerConfig(Section):
    """Where blocks are placed, and which images they get."""

    placement: Literal["grid", "drives", "junctions"] = "grid"
    """`grid`: a square grid. `drives`: one after the other along the drives. `junctions` (Block-NeRF): where drives
    cross, with further blocks on long streets; if no drives cross, along the drives."""
    block_size: Positive = 50.0
    """Size in metres: edge of a grid cell, spacing along the drives, or the longest arm of a block at a junction.
    Streets up to twice this length need no further block."""
    streets_file: Annotated[str, Field(min_length=1)] | None = None
    """Takes junctions and streets from a map instead of the drives: an OpenStreetMap file (.osm), Overpass JSON, or
    GeoJSON with lines. The scene must say where on Earth it is (`geo_origin`)."""
    overlap_ratio: Annotated[float, Field(ge=0, le=1)] = 0.25
    """How far a block reaches into its neighbours, as a share of `block_size`. At 0.25, the paper's value, a block
    covers three quarters of the way to its neighbour, and both cover the middle half."""
    min_images_per_block: Count = 10
    """Blocks with fewer training images are merged into a neighbour."""
    max_blocks: Count = 100
    """More blocks than this are an error. 1 makes the whole scene one block."""
    distance_threshold: Annotated[Positive | None, CHANGEABLE] = None
    """Blocks farther from the camera than this, in metres, are not rendered; the nearest block always is. Default: 1.5
    block sizes."""
    divide_by: Literal["camera", "surface"] = "camera"
    """How blocks share the work. `camera` (Block-NeRF): a block learns whole pictures taken in and near its cells;
    pictures are blended by the camera's distance. `surface` (from the air): a block learns those pixels of any picture
    that show its cells; each pixel is blended by the distance of what it shows."""
    visibility_threshold: Annotated[float, Field(ge=0, lt=1), CHANGEABLE] = 0.25
    """Blocks whose mean visibility in a picture is below this are not rendered; up to twice this they fade in. 0: no
    threshold."""
    blending: Annotated[Literal["visibility", "distance", "nearest"], CHANGEABLE] = "visibility"
    """How pictures of blocks are combined if `divide_by` is `camera`. `distance` (Block-NeRF): by inverse distance of
    the camera to the blocks. `visibility`: by distance, softened, and per pixel by how well each block knows what it
    shows. `nearest`: the nearest block only."""
    blend_power: Annotated[NotNegative, CHANGEABLE] = 4.0
    """p of the inverse-distance weights d^-p (Block-NeRF, section 4.3: 4 in Alamo Square, 1 in Mission Bay)."""
    max_composited: Annotated[int, Field(ge=1, le=8), CHANGEABLE] = 3
    """Maximum number of blocks in one picture. Blocks that are equally near within 10 % all count (see
    city/selection.py)."""

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
