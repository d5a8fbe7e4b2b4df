"""The visibility network."""

from typing import Annotated, Literal

from pydantic import Field

from blocknerf.core.config.section import Section, Width


class VisibilityConfig(Section):
    """The network that predicts what a block sees (see models/visibility.py)."""

    hidden_dims: Annotated[tuple[Width, ...], Field(min_length=1, max_length=12)] = (64, 64)
    """Widths of the hidden layers. The paper has four of 128."""
    use_camera_features: bool = True
    """Adds the camera's distance to the inputs. The paper has only position and direction."""
    use_block_features: bool = True
    """Adds what the block's training rays met between the camera and the place to the inputs."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of hidden units that is switched off in a training step."""
    loss: Literal["cross_entropy", "squared"] = "cross_entropy"
    """Compares predicted with true transmittance. Both kinds have their minimum at the mean; `squared` (the paper's)
    hardly corrects confident mistakes."""
    use_random_pairs: bool = True
    """Learns from random places and directions as well. If false (the paper), only from samples of training rays."""
