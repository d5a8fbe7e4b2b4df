"""Keys that have an effect only with a certain value of another key.

If that key makes another choice (`CHOICES`), they are refused. If it switches something off (`SWITCHES`), they are kept
with a message, for when it is switched on again. Only values that differ from the default count. Keys that belong to
one backbone are in other_backbones.py.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import reduce
from typing import Any

from pydantic import BaseModel


@dataclass(frozen=True, slots=True)
class Need:
    """The condition under which `keys` (section.key, or a section) have an effect."""

    keys: tuple[str, ...]
    met: Callable[[Any], bool]
    """Of a Config."""
    other: str
    """Describes a configuration that does not meet it, as in "with backbone hash"."""
    remedy: str = ""
    """As in "give backbone mlp"; only for choices."""


CHOICES = (
    Need(
        ("pose_refinement.feature_weights", "pose_refinement.hidden_dim"),
        lambda config: config.pose_refinement.mode == "features",
        "without pose_refinement.mode features",
        "give that",
    ),
    Need(
        ("training.lr_final_ratio",),
        lambda config: not config.training.lr_decay_steps,
        "beside training.lr_decay_steps, where rates fall by lr_decay_rate",
        "empty that list",
    ),
    Need(
        ("training.lr_decay_rate",),
        lambda config: bool(config.training.lr_decay_steps),
        "without training.lr_decay_steps",
        "give those",
    ),
    Need(
        ("training.pose_lr_decay",),
        lambda config: bool(config.training.pose_milestones),
        "without training.pose_milestones",
        "give those",
    ),
    Need(
        ("block_manager.blending",),
        lambda config: config.block_manager.divide_by == "camera",
        "with block_manager.divide_by surface, where every pixel is blended by what it shows",
        "give divide_by camera",
    ),
)

SWITCHES = (
    Need(
        ("block_manager.placement", "block_manager.overlap_ratio", "block_manager.min_images_per_block"),
        lambda config: config.block_manager.max_blocks > 1,
        "block_manager.max_blocks is 1",
    ),
    Need(
        ("block_manager.distance_threshold", "block_manager.max_composited", "block_manager.visibility_threshold"),
        lambda config: config.block_manager.blending != "nearest" or config.block_manager.divide_by == "surface",
        "block_manager.blending is nearest",
    ),
    Need(
        (
            "visibility_network",
            "training.visibility_lr",
            "training.visibility_loss_weight",
            "block_manager.visibility_threshold",
        ),
        lambda config: config.training.use_visibility_network,
        "training.use_visibility_network is false",
    ),
    Need(
        ("pose_refinement", "training.pose_lr", "training.pose_milestones"),
        lambda config: config.training.use_pose_refinement,
        "training.use_pose_refinement is false",
    ),
    Need(
        ("pose_refinement.regularization_start",),
        lambda config: config.pose_refinement.regularization_share > 0,
        "pose_refinement.regularization_share is 0",
    ),
    Need(
        (
            "appearance_embedding",
            "training.appearance_lr",
            "training.appearance_loss_weight",
            "training.appearance_smoothness_weight",
            "training.appearance_cosine_cycles",
            "training.appearance_min_lr",
        ),
        lambda config: config.training.use_appearance_embedding,
        "training.use_appearance_embedding is false",
    ),
    Need(
        ("training.appearance_lr", "training.appearance_loss_weight", "training.appearance_smoothness_weight"),
        lambda config: config.appearance_embedding.use_block_appearance,
        "appearance_embedding.use_block_appearance is false",
    ),
    Need(
        ("exposure_encoding",),
        lambda config: config.training.use_exposure_encoding,
        "training.use_exposure_encoding is false",
    ),
    Need(
        ("training.depth_loss_weight",),
        lambda config: config.dataset.use_depth,
        "dataset.use_depth is false",
    ),
    Need(
        ("distributed.exchange_every",),
        lambda config: config.training.consistency_loss_weight > 0,
        "training.consistency_loss_weight is 0",
    ),
    Need(
        ("dataset.precrop_frac",),
        lambda config: config.dataset.precrop_iters > 0,
        "dataset.precrop_iters is 0",
    ),
    Need(
        ("dataset.patch_size", "dataset.patch_share"),
        lambda config: config.needs_patches,
        "neither SSIM nor depth is learned",
    ),
    Need(
        ("training.rgb_l1_share", "training.rgb_ssim_share"),
        lambda config: config.training.rgb_loss_weight > 0,
        "training.rgb_loss_weight is 0",
    ),
    Need(
        ("training.stage_training.stages",),
        lambda config: config.training.stage_training.enable,
        "training.stage_training.enable is false",
    ),
    Need(
        ("validation.render_test_views", "validation.render_novel_views", "dataset.val_batch_size"),
        lambda config: config.validation.num_val_images > 0,
        "validation.num_val_images is 0",
    ),
    Need(
        ("logging.image_log_freq", "logging.tensorboard_dir"),
        lambda config: config.logging.use_tensorboard,
        "logging.use_tensorboard is false",
    ),
)


def refused(config: Any, default: Any, given: dict[str, Any]) -> list[str]:
    """A sentence for each choice under which keys of the tree `given` have no effect."""
    return [
        f"{', '.join(keys)} would change nothing {need.other}; {need.remedy}, or leave it at its default"
        for need, keys in _without_effect(CHOICES, config, default, given)
    ]


def waiting(config: Any, default: Any, given: dict[str, Any]) -> list[str]:
    """A sentence for each switch that keys of the tree `given` wait for."""
    return [
        f"{', '.join(keys)}: without effect as long as {need.other}."
        for need, keys in _without_effect((*config.block_nerf.switches, *SWITCHES), config, default, given)
    ]


def _without_effect(
    needs: tuple[Need, ...], config: Any, default: Any, given: dict[str, Any]
) -> Iterator[tuple[Need, list[str]]]:
    for need in needs:
        given_keys = [
            key for section_or_key in need.keys for key in keys_of(default, section_or_key) if _is_in(given, key)
        ]
        changed = [key for key in given_keys if value_of(config, key) != value_of(default, key)]
        if changed and not need.met(config):
            yield need, changed


def keys_of(config: Any, key: str) -> list[str]:
    """The key itself or, of a section, all in it."""
    value = value_of(config, key)
    return [f"{key}.{name}" for name in type(value).model_fields] if isinstance(value, BaseModel) else [key]


def _is_in(tree: Any, key: str) -> bool:
    for name in key.split("."):
        if not isinstance(tree, dict) or name not in tree:
            return False
        tree = tree[name]
    return True


def value_of(config: Any, key: str) -> Any:
    """The value of section.key."""
    return reduce(getattr, key.split("."), config)
