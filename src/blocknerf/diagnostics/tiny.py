"""Every part of a run, each as small as it can be: what `--debug` trains."""

from typing import Any

from blocknerf.core.config.config import Config
from blocknerf.core.config.stages import StageTraining
from blocknerf.scene.scene import Scene

LONG_SIDE_PX = 96
RAYS_PER_IMAGE, PRECROP_STEPS = 32, 3
LARGEST: dict[str, dict[str, Any]] = {
    "dataset": {"batch_size": 256, "max_images": 24},
    "block_manager": {"min_images_per_block": 4},
    "training": {"num_epochs": 1, "max_steps": 20, "lr_warmup_steps": 5},
    "validation": {"val_freq": 0.5, "num_val_images": 1},
    "logging": {"log_freq": 5},
}
"""What a value is lowered to where it is larger, or where nothing bounds it."""


def tiny_config(config: Config, scene: Scene) -> Config:
    """The configuration with a few small images, few samples and steps, and small tables; all else as it was.

    Nothing is switched off. A tiny configuration comes back as it is.
    """
    tree = _lowered(config.model_dump(mode="json"), LARGEST)
    longest_px = max(max(camera.width, camera.height) for camera in scene.cameras.values())
    tree["dataset"]["image_downsample"] = max(1, min(64, longest_px // LONG_SIDE_PX))
    if config.dataset.num_rays_per_image is not None:
        tree["dataset"]["num_rays_per_image"] = min(config.dataset.num_rays_per_image, RAYS_PER_IMAGE)
    tree["dataset"]["precrop_iters"] = min(config.dataset.precrop_iters, PRECROP_STEPS)
    tree["block_nerf"] = config.block_nerf.for_debug()
    training = tree["training"]
    shorter = training["num_epochs"] / config.training.num_epochs
    training["lr_decay_steps"] = [shorter * epoch for epoch in config.training.lr_decay_steps]
    training["stage_training"] = _staged(
        config.training.stage_training, shorter, longest_px // tree["dataset"]["image_downsample"]
    )
    tree["visibility_network"]["hidden_dims"] = [min(16, width) for width in config.visibility_network.hidden_dims[:2]]
    return Config.model_validate(tree)


def _staged(config: StageTraining, shorter: float, longest_px: int) -> dict[str, Any]:
    """Every stage, in the same order of sizes."""
    staged = config.model_dump(mode="json")
    largest = max((stage["resolution"] or 0 for stage in staged["stages"]), default=0)
    for stage in staged["stages"]:
        stage["epochs"] *= shorter
        if stage["resolution"] is not None:
            stage["resolution"] = max(1, longest_px * stage["resolution"] // largest)
        if stage["num_samples"] is not None:
            stage["num_samples"] = min(stage["num_samples"], 8)
    return staged


def _lowered(tree: dict[str, Any], largest: dict[str, Any]) -> dict[str, Any]:
    lowered = dict(tree)
    for key, bound in largest.items():
        if isinstance(bound, dict):
            lowered[key] = _lowered(tree[key], bound)
        else:
            lowered[key] = bound if tree[key] is None else min(tree[key], bound)
    return lowered
