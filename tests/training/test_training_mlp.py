"""The mlp backbone through the trainer and the command line."""

import json
from pathlib import Path

import pytest
import torch

from blocknerf.blocks.output import plan_scene
from blocknerf.cli.evaluate import evaluate
from blocknerf.cli.train import train
from blocknerf.core.config.load import load_config
from blocknerf.scene.store import ImageStore
from blocknerf.training.block.inputs import BlockFolders, BlockInputs
from blocknerf.training.block.trainer import BlockNeRFTrainer
from blocknerf.training.run.run import Run
from tests.support.room import write_room
from tests.support.small_field import SMALL_MLP

ROOT = Path(__file__).parents[2]
SMALL = (
    "block_manager.max_blocks=1",
    *SMALL_MLP,
    "dataset.batch_size=256",
    "training.nerf_lr=4e-3",
    "training.lr_warmup_steps=10",
    "validation.num_val_images=1",
    "logging.use_tensorboard=false",
)


@pytest.fixture(scope="module")
def room(tmp_path_factory) -> Path:
    return write_room(tmp_path_factory.mktemp("room"))


def _trainer(room: Path, out: Path, *overrides: str) -> BlockNeRFTrainer:
    run = Run(*plan_scene(load_config(None, [*SMALL, *overrides]), room, out), out)
    store = ImageStore.open(run.scene, 1, out / "store", progress=False)
    return BlockNeRFTrainer(
        BlockInputs(run.config, run.plan.blocks[0], store, run.plan.scene_hash), BlockFolders(out / "blocks" / "000")
    )


def test_it_learns_the_room(room, tmp_path):
    """A picture of the mean colour has 11 dB."""
    trainer = _trainer(room, tmp_path, "training.max_steps=150", "training.num_epochs=1000")
    result = trainer.train()
    assert result.steps == 150
    assert result.val_psnr is not None
    assert result.val_psnr > 15


def test_the_papers_file_trains(room, tmp_path):
    """With smaller numbers alone: every part of it is learned, and every term counts."""
    small = ("block_nerf.hidden_dim=16", "block_nerf.num_samples_coarse=8", "block_nerf.num_samples_fine=8")
    fewer = ("dataset.batch_size=128", "training.max_steps=6", "training.lr_warmup_steps=1", "block_nerf.near_m=0.1")
    config = load_config(
        ROOT / "configs" / "paper.yaml",
        [*small, *fewer, "block_manager.max_blocks=1", "validation.num_val_images=0", "logging.use_tensorboard=false"],
    )
    run = Run(*plan_scene(config, room, tmp_path), tmp_path)
    store = ImageStore.open(run.scene, 1, tmp_path / "store", progress=False)
    trainer = BlockNeRFTrainer(
        BlockInputs(config, run.plan.blocks[0], store, run.plan.scene_hash), BlockFolders(tmp_path / "blocks" / "000")
    )
    before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    terms, _ = trainer.train_step()
    assert {"rgb", "coarse_rgb", "visibility", "pose"} <= set(terms)
    assert trainer.train().steps == 6
    moved = {name for name, tensor in trainer.model.state_dict().items() if not torch.equal(tensor, before[name])}
    for part in ("field", "appearance", "visibility", "poses"):
        assert any(part in name for name in moved), part


def test_both_passes_learn_and_there_is_no_proposal(room, tmp_path):
    trainer = _trainer(room, tmp_path)
    terms, _ = trainer.train_step()
    everywhere = {"rgb", "mse", "distortion", "appearance", "appearance_smoothness", "visibility"}
    assert set(terms) == everywhere | {"coarse_rgb"}
    assert trainer.stepper.loss.weights["coarse_rgb"] == 0.1
    single = _trainer(room, tmp_path / "single", "block_nerf.use_hierarchical_sampling=false")
    assert set(single.train_step()[0]) == {
        "rgb",
        "mse",
        "distortion",
        "appearance",
        "appearance_smoothness",
        "visibility",
    }


def test_stopped_and_resumed_is_never_stopped(room, tmp_path):
    whole = _trainer(room, tmp_path / "whole")
    for _ in range(20):
        whole.train_step()
    first = _trainer(room, tmp_path / "halves")
    for _ in range(10):
        first.train_step()
    first.save()
    second = _trainer(room, tmp_path / "halves")
    assert second.resume()
    for _ in range(10):
        second.train_step()
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, second.model.state_dict()[name]), name


@pytest.mark.demo
def test_a_city_is_trained_and_evaluated_by_command(tiny_city, tmp_path):
    small = ("dataset.image_downsample=4", "block_nerf.num_samples_coarse=4", "block_nerf.num_samples_fine=4")
    overrides = (*SMALL[1:], *small, "training.max_steps=3", "training.num_epochs=1000")
    train(tiny_city, tmp_path, overrides=(*overrides, "block_manager.block_size=25"))
    assert len(list(tmp_path.glob("blocks/*/latest.json"))) > 1
    evaluate(tmp_path, protocols="plain")
    metrics = json.loads((tmp_path / "report" / "metrics.json").read_text())
    assert metrics["composited"]["psnr"] > 3
