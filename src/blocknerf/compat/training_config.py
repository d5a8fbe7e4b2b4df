"""The documents' flat configuration: one object with attributes, which is converted to the schema."""

from dataclasses import dataclass, field
from typing import Any

from blocknerf.core.config.config import Config
from blocknerf.core.config.load import validated
from blocknerf.core.errors import UserError
from blocknerf.core.logging import log

SKIP = 4
"""The paper's layer after which the position is appended again, if there is one."""


@dataclass
class BlockNeRFTrainingConfig:
    """The training configuration under the documents' names and with their defaults; see KEYS for what each one is.

    `distributed`, `world_size` and `use_model_parallel` say how a run is started, not what it learns, which is for the
    launcher and its flags: `to_config` says which for the first, and refuses other values than these of the others.
    """

    scene_bounds: list[float] | None = field(default_factory=lambda: [-100, -100, -10, 100, 100, 50])
    block_size: float = 50.0
    overlap_ratio: float = 0.3
    min_images_per_block: int = 100

    nerf_layers: int = 8
    nerf_hidden_dim: int = 256
    appearance_embedding_dim: int = 32
    visibility_hidden_dim: int = 512

    num_epochs: float = 200
    batch_size: int = 4096
    learning_rate: float = 5e-4
    lr_decay_steps: list[float] = field(default_factory=lambda: [100, 150])
    lr_decay_rate: float = 0.1

    rgb_loss_weight: float = 1.0
    depth_loss_weight: float = 0.1
    consistency_loss_weight: float = 0.5
    regularization_weight: float = 1e-6
    appearance_loss_weight: float = 0.1

    num_samples_coarse: int = 64
    num_samples_fine: int = 128
    perturb_samples: bool = True
    white_background: bool = False

    use_mixed_precision: bool = True
    use_gradient_checkpointing: bool = True
    gradient_clip_norm: float = 1.0

    distributed: bool = False
    world_size: int = 1
    use_model_parallel: bool = False

    checkpoint_dir: str = "./checkpoints"
    save_frequency: int = 10
    validation_frequency: float = 5

    use_tensorboard: bool = True
    log_frequency: int = 100
    image_log_frequency: int = 1000

    def to_config(self) -> Config:
        """The same in the schema, with the paper's network.

        Raises UserError for a value that the schema refuses, and for settings of the launcher.
        """
        named = [
            f"{name} {getattr(self, name)!r}: {REPLACEMENTS[name]}" for name in REPLACEMENTS if self._is_changed(name)
        ]
        if named:
            raise UserError(f"BlockNeRFTrainingConfig cannot say how a run is started. {'; '.join(named)}.")
        if self.distributed:
            log.info("BlockNeRFTrainingConfig.distributed: %s.", DISTRIBUTED)
        tree: dict[str, Any] = {"block_nerf": {"backbone": "mlp"}}
        for name, key in KEYS.items():
            section, _, leaf = key.partition(".")
            tree.setdefault(section, {})[leaf] = getattr(self, name)
        width = self.visibility_hidden_dim
        tree["block_nerf"]["skip_connections"] = [SKIP] if self.nerf_layers > SKIP + 1 else []
        tree["visibility_network"] = {"hidden_dims": [width, width // 2, width // 4]}
        return validated(tree, "BlockNeRFTrainingConfig")

    def _is_changed(self, name: str) -> bool:
        return getattr(self, name) != getattr(type(self), name)


DISTRIBUTED = "start the run with `torchrun --nproc-per-node N -m blocknerf train --distributed`"
REPLACEMENTS = {
    "world_size": "that many processes are started by torchrun's --nproc-per-node and --nnodes",
    "use_model_parallel": "give distributed.device_map in its place, as in {encoder: 0, nerf_mlp: 1, decoder: 1}",
}
"""Attributes about how a run is started, which are not keys, and what to use instead."""
KEYS = {
    "scene_bounds": "dataset.scene_bounds",
    "block_size": "block_manager.block_size",
    "overlap_ratio": "block_manager.overlap_ratio",
    "min_images_per_block": "block_manager.min_images_per_block",
    "nerf_layers": "block_nerf.num_layers",
    "nerf_hidden_dim": "block_nerf.hidden_dim",
    "appearance_embedding_dim": "appearance_embedding.embedding_dim",
    "num_epochs": "training.num_epochs",
    "batch_size": "dataset.batch_size",
    "learning_rate": "training.nerf_lr",
    "lr_decay_steps": "training.lr_decay_steps",
    "lr_decay_rate": "training.lr_decay_rate",
    "rgb_loss_weight": "training.rgb_loss_weight",
    "appearance_loss_weight": "training.appearance_loss_weight",
    "num_samples_coarse": "block_nerf.num_samples_coarse",
    "num_samples_fine": "block_nerf.num_samples_fine",
    "perturb_samples": "block_nerf.perturb_samples",
    "white_background": "dataset.white_background",
    "gradient_clip_norm": "training.gradient_clip_norm",
    "validation_frequency": "validation.val_freq",
    "use_tensorboard": "logging.use_tensorboard",
    "log_frequency": "logging.log_freq",
    "depth_loss_weight": "training.depth_loss_weight",
    "consistency_loss_weight": "training.consistency_loss_weight",
    "regularization_weight": "training.regularization_weight",
    "use_mixed_precision": "training.use_mixed_precision",
    "use_gradient_checkpointing": "training.use_gradient_checkpointing",
    "checkpoint_dir": "output.checkpoint_dir",
    "save_frequency": "validation.save_freq",
    "image_log_frequency": "logging.image_log_freq",
}
"""By attribute: its key in the schema. `visibility_hidden_dim` is the first of three widths, each half the one before,
which are those of the documents' file."""
