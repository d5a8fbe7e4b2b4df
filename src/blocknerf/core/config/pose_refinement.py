"""Refinement of camera poses."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from blocknerf.core.config.section import NotNegative, Positive, Section

PoseMode = Literal["drive", "segment", "image", "features"]
FEATURE_KEYS = {"feature_extractor", "feature_weights", "hidden_dim"}
"""Keys of pose_refinement that mean something to `mode: features` alone."""


class PoseRefinementConfig(Section):
    """How the poses of a block's images are refined during training (Block-NeRF, section 4.2.2)."""

    mode: PoseMode = "drive"
    """One rigid offset per `drive`, per `segment` of a drive (between two gaps), per `image`, or per image computed
    from its `features`. A block with a single drive uses segments; with a single segment, images. If mode is not given,
    feature_extractor, feature_weights or hidden_dim implies `features`."""
    max_translation: Positive = 1.0
    """Maximum shift of an offset, in metres."""
    max_rotation: Annotated[float, Field(gt=0, le=1.5)] = 0.1
    """Maximum rotation of an offset, in radians."""
    regularization_start: NotNegative = 10.0
    """Initial weight of the squared offsets, each as a share of its maximum, while the first geometry is learned."""
    regularization_end: NotNegative = 1e-5
    """Final weight of the squared offsets."""
    regularization_share: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Share of the run in which that weight falls from start to end."""
    regularization_decay: Literal["exponential", "linear"] = "exponential"
    """How it falls: `exponential` by equal factors, `linear` (the paper's) by equal steps. Linear stays high for
    longer."""
    coarse_to_fine_share: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Share of the run, or of the time since a restart, in which the levels (hash) or octaves (mlp) are switched on,
    coarsest first. 0: all from the start."""
    field_restarts: Annotated[int, Field(ge=0, le=100)] = 0
    """Number of times the field starts anew in the first third of the run, keeping the poses learned so far. A field
    that has learned from wrong poses holds them in place; without it they can improve. Useful for consecutive parts of
    a drive that are off by more than a few pixels."""
    feature_extractor: Literal["resnet18"] = "resnet18"
    """Network that computes an image's features for `mode: features`."""
    feature_weights: str | None = None
    """A safetensors file with weights of the extractor. Default: random weights."""
    hidden_dim: Annotated[int, Field(ge=8, le=4096)] = 256
    """Width of the network that turns an image's features into its offset."""

    @model_validator(mode="before")
    @classmethod
    def _features_are_meant_where_they_are_described(cls, tree: Any) -> Any:
        """As in the documents, whose section has no `mode`."""
        if isinstance(tree, dict) and "mode" not in tree and FEATURE_KEYS & set(tree):
            return {"mode": "features"} | tree
        return tree
