"""What pose refinement needs to know about images: which share an offset, camera centres, and features."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from blocknerf.blocks.plan import Plan
from blocknerf.core.config.config import Config
from blocknerf.core.config.pose_refinement import PoseRefinementConfig
from blocknerf.core.errors import listed
from blocknerf.core.seeds import generator
from blocknerf.models.image_features import FeatureExtractor, resnet18
from blocknerf.models.poses import PoseGroups, PoseRefinementNetwork, free_groups
from blocknerf.scene.scene import ImageRecord, Scene
from blocknerf.scene.store import ImageStore

MOST_NAMED = 6
EXTRACTORS = {"resnet18": resnet18}


def groups_of(config: Config, images: Sequence[ImageRecord]) -> PoseGroups | None:
    """Which of a block's training images share an offset; None if poses are not refined."""
    if not config.training.use_pose_refinement:
        return None
    ids, drives, segments = zip(*((image.id, image.drive, image.segment) for image in images), strict=True)
    return free_groups(config.pose_refinement.mode, ids, drives, segments)


def about_groups(config: Config, groups: PoseGroups) -> str | None:
    """What to log about a block whose poses are not refined, or not as `mode` says."""
    mode, number = config.pose_refinement.mode, len(set(groups.names))
    if "pose" not in config.training.learned_components:
        return "no pose is refined, for no stage of training.stage_training learns poses; no level is let in late"
    alone = "and what all images move alike changes no picture"
    if not groups.are_free:
        whole = "there is one image" if groups.by == "image" else f"all images are of one {groups.by}"
        return f"no pose is refined, for {whole}, {alone}; no level is let in late"
    if mode in ("features", groups.by):
        return None
    how = f"segment by segment, of which there are {number}" if groups.by == "segment" else "image by image"
    return f"poses are refined {how}, for all images are of one {mode}, {alone}"


def about_poses(config: Config, plan: Plan, scene: Scene) -> list[str]:
    """`about_groups` for the plan's blocks: each sentence once, with the blocks for which it is true."""
    image_of = {image.id: image for image in scene.images}
    blocks_of: dict[str, list[str]] = {}
    for block in plan.blocks:
        groups = groups_of(config, [image_of[image_id] for image_id in block.train_images])
        sentence = None if groups is None else about_groups(config, groups)
        if sentence is not None:
            blocks_of.setdefault(sentence, []).append(block.id)
    return [f"{_blocks(ids)}: {sentence}." for sentence, ids in blocks_of.items()]


def _blocks(ids: Sequence[str]) -> str:
    return f"Block{'s' * (len(ids) > 1)} {listed(ids, MOST_NAMED)}"


def place_poses(
    poses: PoseRefinementNetwork, config: Config, store: ImageStore, image_ids: tuple[str, ...], radius_m: float
) -> None:
    """Gives `poses` the camera centres of its images and, if it needs them, their features."""
    centers = np.stack([store.records[image_id].world_from_cam[:, 3] for image_id in image_ids])
    poses.place(torch.from_numpy(centers), radius_m)
    if config.pose_refinement.mode == "features":
        extract = make_extractor(config.pose_refinement, config.training.seed)
        poses.features.copy_(torch.stack([extract(_picture(store, image_id)) for image_id in image_ids]))


def make_extractor(config: PoseRefinementConfig, seed: int) -> FeatureExtractor:
    """The extractor of the configuration; the same for all blocks of a run."""
    weights = None if config.feature_weights is None else Path(config.feature_weights)
    return EXTRACTORS[config.feature_extractor](weights, generator(seed, "feature extractor"))


def _picture(store: ImageStore, image_id: str) -> torch.Tensor:
    """[3, H, W] in [0, 1]. Masked pixels are grey, so that a passing car does not change a pose."""
    rgb = store.rgb(image_id).astype(np.float32) / 255
    rgb[~store.valid(image_id)] = 0.5
    return torch.from_numpy(rgb).permute(2, 0, 1)
