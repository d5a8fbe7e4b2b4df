"""The first losses of two small blocks of each backbone, which no move and no rename may change.

`make golden` stores new ones, after a change that is meant to change them.
"""

import hashlib
import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import llvmlite.binding as llvm
import numba
import torch

from blocknerf.blocks.output import plan_scene
from blocknerf.core.config.load import load_config
from blocknerf.kernels.jit.numba_internals import cpu_features
from blocknerf.training.launchers.sequential import SequentialLauncher
from blocknerf.training.run.run import Run
from blocknerf.training.train_blocks import train_blocks
from tests.support.room import write_room

STORED = Path(__file__).parents[1] / "training" / "golden_losses.json"
STEPS = 50
TERMS = {
    "rgb": ("training.rgb_loss_weight", 1.0),
    "interlevel": ("training.interlevel_loss_weight", 1.0),
    "coarse_rgb": ("training.coarse_loss_weight", 0.1),
    "distortion": ("training.distortion_loss_weight", 0.01),
    "depth": ("training.depth_loss_weight", 0.1),
    "consistency": ("training.consistency_loss_weight", 0.1),
    "regularization": ("training.regularization_weight", 1e-5),
    "appearance": ("training.appearance_loss_weight", 1.0),
    "visibility": ("training.visibility_loss_weight", 1e-6),
    "pose": ("pose_refinement.regularization_start", 0.1),
}
"""The key that weighs each term of the loss, and its weight."""

# What differs in the last bit grows with every step that it decides. Low rates, and a field without fine detail, keep
# 50 steps below 1e-5: with the usual rates two kinds of processors differ by 1e-2.
SMALL = (
    "block_manager.block_size=2.2",
    "block_manager.overlap_ratio=0.5",
    "block_manager.min_images_per_block=1",
    "block_nerf.hidden_dim=16",
    "block_nerf.num_samples_coarse=8",
    "block_nerf.num_samples_fine=8",
    "block_nerf.near_m=0.1",
    "block_nerf.far_m=6",
    "dataset.batch_size=160",
    "dataset.scene_bounds=[-9,-9,-9,9,0,9]",
    "dataset.test_every=0",
    "dataset.use_depth=true",
    "training.use_pose_refinement=true",
    "training.rgb_l1_share=0.1",
    "training.rgb_ssim_share=0.1",
    "training.nerf_lr=2e-4",
    "training.appearance_lr=1e-5",
    "training.appearance_smoothness_weight=0",  # younger than the losses
    "training.pose_lr=6e-5",
    "training.visibility_lr=2e-5",
    "training.lr_warmup_steps=10",
    "training.num_epochs=100",
    f"training.max_steps={STEPS}",
    "pose_refinement.regularization_end=0.1",
    "validation.num_val_images=0",
    "logging.log_freq=1",
    "logging.use_tensorboard=false",
)
BACKBONES = {
    "hash": (
        "block_nerf.hash_grid.num_levels=4",
        "block_nerf.hash_grid.log2_table_rows=8",
        "block_nerf.hash_grid.base_resolution=8",
        "block_nerf.hash_grid.finest_resolution=32",
        "block_nerf.proposal_resolution=12",
    ),
    "mlp": (
        "block_nerf.num_layers=3",
        "block_nerf.skip_connections=[1]",
        "block_nerf.pos_encoding_levels=4",
    ),
}
ALONE = {"interlevel": "hash", "coarse_rgb": "mlp"}
"""Terms of one backbone alone."""


def terms_of(backbone: str) -> dict[str, tuple[str, float]]:
    """Of TERMS, those that the backbone has."""
    return {name: key for name, key in TERMS.items() if ALONE.get(name, backbone) == backbone}


def losses(backbone: str, folder: Path) -> dict[str, list[float]]:
    """The loss of each step, by block; the second one learns to agree with the first."""
    weights = (f"{key}={weight}" for key, weight in terms_of(backbone).values())
    config = load_config(None, [f"block_nerf.backbone={backbone}", *BACKBONES[backbone], *SMALL, *weights])
    run = Run(*plan_scene(config, _room(folder / "room"), folder / "city"), folder / "city")
    train_blocks(run, launcher=SequentialLauncher())
    return {block.id: _losses_in(run.block_folder(block.id) / "metrics.jsonl") for block in run.plan.blocks}


def processor_type() -> dict[str, str]:
    """What decides how sums are rounded: the processor that code is compiled for, and the libraries that do it."""
    settings: Any = numba.config  # pyright: ignore[reportPrivateImportUsage]
    return {
        "processor": settings.CPU_NAME or llvm.get_host_cpu_name(),
        "features": hashlib.sha256(cpu_features().encode()).hexdigest()[:16],
        "torch": f"{torch.__version__}, {torch.backends.cpu.get_cpu_capability()}",
        "numba": numba.__version__,
    }


def stored() -> dict[str, Any]:
    """`made_on` a type of processor; `losses` by backbone and block, as hexadecimal floats."""
    return json.loads(STORED.read_text(encoding="utf-8"))


def logged_terms(file: Path) -> list[dict[str, float]]:
    """Of a block's metrics.jsonl: the terms of each step by name, unweighted, and beside them `mse`."""
    lines = (json.loads(line) for line in file.read_text().splitlines())
    named = ({name: value for name, value in line.items() if name.startswith("loss/")} for line in lines)
    return [{name.removeprefix("loss/"): value for name, value in step.items()} for step in named if step]


def _room(folder: Path) -> Path:
    """Twelve pictures with depth, of two drives, at three exposures."""
    tree_file = write_room(folder, images=12, width=24, height=18, depth=True) / "transforms.json"
    tree = json.loads(tree_file.read_text())
    for number, frame in enumerate(tree["frames"]):
        frame["exposure"] = 0.002 * 2 ** (number % 3 - 1)
    tree_file.write_text(json.dumps(tree))
    return folder


def _losses_in(file: Path) -> list[float]:
    steps = ({name: value for name, value in terms.items() if name != "mse"} for terms in logged_terms(file))
    return [sum(TERMS[name][1] * value for name, value in terms.items()) for terms in steps]


def main() -> None:
    with TemporaryDirectory() as folder:
        made = {backbone: losses(backbone, Path(folder) / backbone) for backbone in BACKBONES}
    as_hex = {
        backbone: {block: [loss.hex() for loss in of_block] for block, of_block in blocks.items()}
        for backbone, blocks in made.items()
    }
    tree = {"made_on": processor_type(), "losses": as_hex}
    to = Path(sys.argv[1]) if len(sys.argv) > 1 else STORED
    to.write_text(json.dumps(tree, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
