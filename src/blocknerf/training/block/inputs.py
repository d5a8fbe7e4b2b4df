"""Inputs of the training of one block, and the folders of its files."""

import math
from dataclasses import dataclass
from pathlib import Path

from blocknerf.blocks.plan import BlockSpec
from blocknerf.core.config.config import Config
from blocknerf.core.types import Exposures
from blocknerf.models.block_nerf import BlockNeRF
from blocknerf.models.poses import PoseGroups
from blocknerf.scene.observed_points import ObservedPoints
from blocknerf.scene.sampler import Tiles
from blocknerf.scene.scene import ImageRecord
from blocknerf.scene.store import ImageStore
from blocknerf.training.block.checkpoint import CheckpointProvenance


@dataclass(frozen=True, slots=True)
class BlockInputs:
    """Everything that decides what a block learns: the same inputs give the same weights on the same machine."""

    config: Config
    spec: BlockSpec
    store: ImageStore
    scene_hash: str
    earlier_scene_hashes: tuple[str, ...] = ()
    """Hashes of earlier versions of the scene, with fewer images. Their checkpoints can be resumed."""
    exposures: Exposures | None = None
    """Exposures of the whole scene; None if the field does not use exposure."""
    tiles: Tiles | None = None
    """Parts of its images that the block learns first; None: no part is preferred (see `PixelSampler`)."""
    points: ObservedPoints | None = None
    """Where its images saw sparse points; None: unknown, or training.point_loss_weight is 0."""
    pose_groups: PoseGroups | None = None
    """Which images shared a pose offset when training began; None: derived from the images."""
    learned: BlockNeRF | None = None
    """The model from which an update begins; None: a new one."""
    blocks_at_once: int = 1
    """Number of blocks that share this machine. Each may take this many times training.max_minutes."""

    @property
    def image_ids(self) -> tuple[str, ...]:
        """The block's training images that could be decoded."""
        return usable_images(self.spec, self.store)

    @property
    def images(self) -> list[ImageRecord]:
        return [self.store.records[image_id] for image_id in self.image_ids]

    @property
    def test_image_ids(self) -> list[str]:
        """The block's test images that could be decoded."""
        return [image_id for image_id in self.spec.test_images if image_id in self.store.records]

    @property
    def provenance(self) -> CheckpointProvenance:
        """What a checkpoint of this block must have been made from."""
        hashes = (self.scene_hash, *self.earlier_scene_hashes)
        return CheckpointProvenance(self.spec.id, hashes, self.config, self.image_ids)

    @property
    def budget_s(self) -> float:
        """Maximum training time in seconds; infinite if only the number of steps is limited."""
        minutes = self.config.training.max_minutes
        return math.inf if minutes is None else 60 * minutes * self.blocks_at_once


@dataclass(frozen=True, slots=True)
class BlockFolders:
    """Folders to which the training of one block writes."""

    block: Path
    """Weights that can be rendered, and figures."""
    checkpoints: Path | None = None
    """None: `block`."""
    tensorboard: Path | None = None
    """None: no curves are written."""
    renders: Path | None = None
    """None: validation writes no pictures."""

    @property
    def checkpoint_dir(self) -> Path:
        return self.checkpoints or self.block


def usable_images(block: BlockSpec, store: ImageStore) -> tuple[str, ...]:
    """The block's training images that could be decoded."""
    return tuple(image_id for image_id in block.train_images if image_id in store.records)
