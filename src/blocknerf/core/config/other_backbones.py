"""Keys that a configuration gives for another backbone than its own."""

from typing import Any

from pydantic import BaseModel, ValidationError

from blocknerf.core.config.backbone import BackboneConfig, backbones, keys_of_others

LOSS_WEIGHTS = {"interlevel_loss_weight": "interlevel", "coarse_loss_weight": "coarse_rgb"}
"""Keys of `training`: weights of loss terms that only some backbones have."""


def keys_for_others(config: Any, default: Any, given: dict[str, Any]) -> list[str]:
    """A sentence for each backbone that the tree `given` has keys for, other than the one of `config`.

    Only what differs from the default counts.
    """
    keys_of: dict[str, list[str]] = {}
    section, training = given.get("block_nerf"), given.get("training")
    if isinstance(section, dict):
        for key, name in keys_of_others({"backbone": config.block_nerf.backbone} | section).items():
            keys_of.setdefault(name, []).extend(_changed(backbones()[name], key, section[key]))
    for key, term in LOSS_WEIGHTS.items():
        having = [name for name, backbone in backbones().items() if term in backbone.losses]
        is_given = isinstance(training, dict) and key in training
        is_changed = is_given and getattr(config.training, key) != getattr(default.training, key)
        if is_changed and config.block_nerf.backbone not in having:
            keys_of.setdefault(having[0], []).append(f"training.{key}")
    return [
        f"{', '.join(keys)} would change nothing with backbone {config.block_nerf.backbone}; give backbone {name}, or "
        "leave it at its default"
        for name, keys in keys_of.items()
        if keys
    ]


def _changed(backbone: type[BackboneConfig], key: str, value: Any) -> list[str]:
    """The key, or those in a section, if it differs from that backbone's default."""
    usual = getattr(backbone(), key)
    try:
        parsed = getattr(backbone.model_validate({key: value}), key)
    except ValidationError:
        return [f"block_nerf.{key}"]
    if not isinstance(parsed, BaseModel):
        return [f"block_nerf.{key}"] if parsed != usual else []
    inner = [name for name in type(parsed).model_fields if getattr(parsed, name) != getattr(usual, name)]
    return [f"block_nerf.{key}.{name}" for name in inner]
