"""The visibility network."""

from typing import Annotated, Literal

from pydantic import Field

from blocknerf.core.config.section import Section, Width


class VisibilityConfig(Section):
    """The network that says what a block sees (see models/visibility.py)."""

    hidden_dims: Annotated[tuple[Width, ...], Field(min_length=1, max_length=12)] = (64, 64)
    """Widths of its layers; the paper's are four of 128."""
    use_camera_features: bool = True
    """It is told how far the camera stands, which direction and place alone (the paper's inputs) do not say."""
    use_block_features: bool = True
    """It is told what the block's training rays met between the camera and the place."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of hidden units that is silent in a training step."""
    loss: Literal["cross_entropy", "squared"] = "cross_entropy"
    """Of the transmittance. Both are least at its mean; `squared` (the paper's) hardly moves what is wrong and sure."""
    use_random_pairs: bool = True
    """It learns of places, and of views of places, that no training ray has; false (the paper): of training rays."""
