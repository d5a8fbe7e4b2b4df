"""What the JSON half of a block file says: whose block it is, how far it was trained, how to build its model again."""

from dataclasses import asdict
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from blocknerf.core.config.config import Config
from blocknerf.core.stored import Length, NotBelow0, Number, Place, Text, Truth, Whole
from blocknerf.core.types import Exposures
from blocknerf.models.poses import PoseGroups, default_groups


class _Entries(BaseModel):
    """Entries of a JSON object. Keys that this program does not know are kept."""

    model_config = ConfigDict(frozen=True, extra="allow")


Entries = TypeVar("Entries", bound=_Entries)


class Weights(_Entries):
    """The safetensors file that belongs to a JSON: its name beside it, its hash, its length in bytes."""

    file: Text
    sha256: Text
    bytes: Whole


class ModelMeta(_Entries):
    """What `BlockNeRF.from_state` builds a block from, beside its tensors. Metres; one drive for each image."""

    config: Config
    center_world: Place
    radius_m: Length
    image_ids: tuple[Text, ...]
    drives: tuple[Text, ...]
    exposures: Exposures | None
    pose_groups: PoseGroups | None = None
    bounded: Truth = False

    @model_validator(mode="after")
    def _every_image_has_a_pose_group(self) -> "ModelMeta":
        if self.pose_groups is not None and len(self.pose_groups.names) != len(self.image_ids):
            raise ValueError(f"pose_groups names {len(self.pose_groups.names)} images of {len(self.image_ids)}")
        return self

    @property
    def known_pose_groups(self) -> PoseGroups:
        """Of a file that does not say them, from before there were segments: by mode."""
        return self.pose_groups or default_groups(self.config.pose_refinement.mode, self.image_ids, self.drives)

    def to_json(self) -> dict[str, Any]:
        """The object that stands in the file."""
        tree = _given(self, ModelMeta) | {"config": self.config.model_dump(mode="json")}
        parts = {name: part for name, part in tree.items() if isinstance(part, Exposures | PoseGroups)}
        return tree | {name: asdict(part) for name, part in parts.items()}


class BlockMeta(_Entries):
    """What a block file says when it is written. A checkpoint names its `parts` and holds their values in `state`."""

    block_id: Text
    scene_hash: Text
    anchor_world: Place | None = None  # metres
    step: Whole = 0
    spent_s: NotBelow0 = 0.0
    best_psnr: Number | None = None
    image_ids: tuple[Text, ...]
    drives: tuple[Text, ...]  # one for each image
    model: ModelMeta
    finished: Truth = False
    parts: tuple[Text, ...] = ()
    state: dict[Text, Any] = Field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The object that stands in the file, without its version and its weights."""
        return _given(self, BlockMeta) | {"model": self.model.to_json()}


class StoredMeta(BlockMeta):
    """What a block file says when it is read: the same, and which weights belong to it."""

    version: Whole
    weights: Weights


def _given(entries: Entries, kind: type[Entries]) -> dict[str, Any]:
    """The entries of `kind` that were given, in the order of its fields, then those that nobody knows."""
    known = {name: getattr(entries, name) for name in kind.model_fields if name in entries.model_fields_set}
    return known | (entries.model_extra or {})
