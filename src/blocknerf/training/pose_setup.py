"""What pose refinement must know of the images before training: where they stand, and what they show."""

from pathlib import Path

import numpy as np
import torch

from blocknerf.core.config import Config
from blocknerf.core.seeds import generator
from blocknerf.models.image_features import FeatureExtractor, resnet18
from blocknerf.models.poses import PoseRefinementNetwork
from blocknerf.scene.store import ImageStore

EXTRACTORS = {"resnet18": resnet18}


def place_poses(
    poses: PoseRefinementNetwork, config: Config, store: ImageStore, image_ids: tuple[str, ...], radius_m: float
) -> None:
    """Tells `poses` the camera centres of its images and, where it asks for them, their features."""
    centers = np.stack([store.records[image_id].world_from_cam[:, 3] for image_id in image_ids])
    poses.place(torch.from_numpy(centers), radius_m)
    if config.pose_refinement.mode == "features":
        extract = make_extractor(config)
        poses.features.copy_(torch.stack([extract(_picture(store, image_id)) for image_id in image_ids]))


def make_extractor(config: Config) -> FeatureExtractor:
    """The extractor that the configuration names; the same for every block of a run."""
    settings = config.pose_refinement
    weights = None if settings.feature_weights is None else Path(settings.feature_weights)
    return EXTRACTORS[settings.feature_extractor](weights, generator(config.training.seed, "feature extractor"))


def _picture(store: ImageStore, image_id: str) -> torch.Tensor:
    """[3, H, W] in [0, 1]; masked pixels are grey, so that a passing car moves no pose."""
    rgb = store.rgb(image_id).astype(np.float32) / 255
    rgb[~store.valid(image_id)] = 0.5
    return torch.from_numpy(rgb).permute(2, 0, 1)
