"""Refinement of camera poses."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from blocknerf.core.config.section import NotNegative, Positive, Section

PoseMode = Literal["drive", "segment", "image", "features"]
FEATURE_KEYS = {"feature_extractor", "feature_weights", "hidden_dim"}
"""Keys of pose_refinement that mean something to `mode: features` alone."""


class PoseRefinementConfig(Section):
    """How far, and how, the poses of a block's images may move while it learns (Block-NeRF, section 4.2.2)."""

    mode: PoseMode = "drive"
    """One rigid offset for each drive, for each segment of a drive between two gaps, for each image, or for each image
    from what it shows. A block with one drive alone goes by segment, and one with one segment alone by image. It is
    features where it is not given, and feature_extractor, feature_weights or hidden_dim is."""
    max_translation: Positive = 1.0
    """An offset stays below this many metres."""
    max_rotation: Annotated[float, Field(gt=0, le=1.5)] = 0.1
    """An offset turns by less than this many radians."""
    regularization_start: NotNegative = 10.0
    """Weight of the squared offsets, each as a share of its bound, while the first geometry is learned."""
    regularization_end: NotNegative = 1e-5
    """Weight of the squared offsets when it has fallen."""
    regularization_share: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Share of the run over which that weight falls from start to end."""
    regularization_decay: Literal["exponential", "linear"] = "exponential"
    """How it falls: by equal factors, or by equal steps (the paper's), which hold it high for longer."""
    coarse_to_fine_share: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Share of the run, or of the time since a field's restart, over which levels (hash) or octaves (mlp) are let in,
    coarsest first; 0: all from the start."""
    field_restarts: Annotated[int, Field(ge=0, le=100)] = 0
    """How often the field begins anew in the first third of the run, with the poses learned so far. A field that
    has learned from wrong poses holds them in place; without it they go on to the right ones. For parts of a drive
    that follow one another and are off by more than a few pixels."""
    feature_extractor: Literal["resnet18"] = "resnet18"
    """What `mode: features` sees of an image."""
    feature_weights: str | None = None
    """A safetensors file of the extractor's weights; none: random ones."""
    hidden_dim: Annotated[int, Field(ge=8, le=4096)] = 256
    """Width of the network from an image's features to its offset."""

    @model_validator(mode="before")
    @classmethod
    def _features_are_meant_where_they_are_described(cls, tree: Any) -> Any:
        """As in the documents, whose section has no `mode`."""
        if isinstance(tree, dict) and "mode" not in tree and FEATURE_KEYS & set(tree):
            return {"mode": "features"} | tree
        return tree
