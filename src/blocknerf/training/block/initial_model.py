"""The model of a block when its training begins: a new one or, in an update, what the block has learned."""

import numpy as np
import torch

from blocknerf.core.errors import UserError
from blocknerf.core.seeds import generator
from blocknerf.models.backbones.interface import StartsAsFog
from blocknerf.models.block_nerf import BlockNeRF
from blocknerf.models.model_parallel import ModelParallelBlockNeRF
from blocknerf.scene.trajectories import Trajectories
from blocknerf.training.block.inputs import BlockInputs
from blocknerf.training.block.pose_setup import groups_of, place_poses


def initial_rng(inputs: BlockInputs) -> torch.Generator:
    """Generator of the block's weights, and then of its samples."""
    return generator(inputs.config.training.seed, "train", inputs.spec.id)


def initial_model(inputs: BlockInputs, device: str, rng: torch.Generator) -> BlockNeRF:
    """The model on `device`, or on the devices of distributed.device_map; weights are drawn from `rng`.

    Raises UserError if none of the block's images can be decoded.
    """
    config, spec, images = inputs.config, inputs.spec, inputs.images
    if not images:
        raise UserError(f"Block {spec.id} has no training image that can be decoded. Plan again.")
    drives = tuple(image.drive for image in images)
    groups = inputs.pose_groups or groups_of(config, images)
    make = ModelParallelBlockNeRF if config.distributed.device_map else BlockNeRF
    place = spec.center_world, spec.radius_m
    model = make(config, *place, inputs.image_ids, drives, rng, inputs.exposures, groups, spec.bounded)
    if not config.distributed.device_map:
        model.to(device)
    starts_in_the_air = all(image.is_cut_out for image in images) and not spec.bounded
    if isinstance(model.field, StartsAsFog) and starts_in_the_air:
        model.field.start_fog(1 / _reach(inputs))
    if model.poses is not None:
        place_poses(model.poses, config, inputs.store, inputs.image_ids, spec.radius_m)
    if model.appearance is not None and config.training.appearance_smoothness_weight > 0:
        trajectories = Trajectories.of(list(inputs.store.records.values()))
        model.appearance.connect(trajectories.adjacent(inputs.image_ids))
    if inputs.learned is not None:
        model.load_state_dict(inputs.learned.state_dict(), strict=True)
    return model


def _reach(inputs: BlockInputs) -> float:
    """Typical distance of cameras to the block's centre, in radii; at least one.

    Around an object they stand outside of its cube. Fog that is opaque before a ray arrives there would place all
    samples in the air.
    """
    centers = np.stack([image.world_from_cam[:, 3] for image in inputs.images])
    distances_m = np.linalg.norm(centers - np.array(inputs.spec.center_world), axis=1)
    return max(1.0, float(np.median(distances_m)) / inputs.spec.radius_m)
