"""Training with pose refinement: a displaced drive is found, a stop changes nothing, features come from photographs."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from blocknerf.blocks.output import plan_scene
from blocknerf.core.config import load_config
from blocknerf.core.errors import UserError
from blocknerf.scene.store import ImageStore
from blocknerf.training import pose_setup
from blocknerf.training.trainer import BlockNeRFTrainer

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from room import write_room

SMALL = (
    "training.use_pose_refinement=true",
    "training.use_appearance_embedding=false",
    "block_manager.max_blocks=1",
    "block_nerf.hash_grid.num_levels=4",
    "block_nerf.hash_grid.log2_table_rows=12",
    "block_nerf.hash_grid.finest_resolution=64",
    "block_nerf.proposal_resolution=24",
    "block_nerf.num_samples_coarse=24",
    "block_nerf.num_samples_fine=16",
    "block_nerf.hidden_dim=32",
    "dataset.batch_size=512",
    "training.num_epochs=20",
    "training.nerf_lr=1e-2",
    "training.distortion_loss_weight=2e-3",
    "training.lr_warmup_steps=10",
    "validation.num_val_images=2",
    "logging.use_tensorboard=false",
)
DISPLACED_M = np.array([0.25, -0.15, 0.1])


@pytest.fixture(scope="module")
def room(tmp_path_factory) -> Path:
    """A room whose drive at dusk is told to stand where it did not."""
    folder = write_room(tmp_path_factory.mktemp("room"))
    path = folder / "transforms.json"
    tree = json.loads(path.read_text())
    for frame in tree["frames"]:
        if "dusk" in frame["file_path"]:
            for axis in range(3):
                frame["transform_matrix"][axis][3] += DISPLACED_M[axis]
    path.write_text(json.dumps(tree))
    return folder


def _trainer(room: Path, out: Path, *overrides: str) -> BlockNeRFTrainer:
    config, scene, plan = plan_scene(load_config(None, [*SMALL, *overrides]), room, out)
    store = ImageStore.open(scene, 1, out / "store", progress=False)
    return BlockNeRFTrainer(config, plan.blocks[0], store, plan.scene_hash, out / "blocks" / "000")


def _features(image: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.adaptive_avg_pool2d(image[:2], (16, 16)).flatten()


def test_a_displaced_drive_turns_back(room, tmp_path):
    """Fourteen small pictures leave depth open, so only half of the way is asked for, and no wandering."""
    trainer = _trainer(room, tmp_path)
    trainer.train()
    poses = trainer.model.poses
    assert poses is not None
    offsets = dict(zip(poses.groups, poses.offsets().detach().numpy(), strict=True))
    apart = offsets["dusk"] - offsets["noon"]
    assert np.linalg.norm(apart[:3] + DISPLACED_M) < 0.6 * np.linalg.norm(DISPLACED_M)
    assert np.linalg.norm(apart[3:]) < 0.02
    captured = torch.from_numpy(trainer.store.records[trainer.image_ids[0]].world_from_cam)
    learned = trainer.model.refined_pose(captured, drive="dusk")
    assert 0.3 < float((learned - captured)[:, 3].norm()) / np.linalg.norm(apart[:3]) < 0.7  # the gauge shares it out


@pytest.mark.parametrize("mode", ["drive", "image", "features"])
def test_stopped_and_resumed_is_never_stopped(room, tmp_path, monkeypatch, mode):
    monkeypatch.setitem(pose_setup.EXTRACTORS, "resnet18", lambda weights, rng: _features)
    override = f"pose_refinement.mode={mode}"
    whole = _trainer(room, tmp_path / "whole", override)
    for _ in range(20):
        whole._train_step()
    first = _trainer(room, tmp_path / "halves", override)
    for _ in range(10):
        first._train_step()
    first.save()
    second = _trainer(room, tmp_path / "halves", override)
    assert second.resume()
    for _ in range(10):
        second._train_step()
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, second.model.state_dict()[name]), name
    assert whole.model.poses is not None
    assert any(bool((parameter.detach() != 0).any()) for parameter in whole.model.poses.parameters())


def test_features_are_those_of_the_photographs(room, tmp_path, monkeypatch):
    monkeypatch.setitem(pose_setup.EXTRACTORS, "resnet18", lambda weights, rng: _features)
    trainer = _trainer(room, tmp_path, "pose_refinement.mode=features")
    assert trainer.model.poses is not None
    features = trainer.model.poses.features
    assert features.shape == (len(trainer.image_ids), 512)
    assert len(features.unique(dim=0)) == len(trainer.image_ids)
    red = trainer.store.rgb(trainer.image_ids[3])[..., 0].astype(float) / 255
    assert float(features[3, :256].mean()) == pytest.approx(red.mean(), abs=0.01)


def test_features_without_torchvision_say_what_to_install(room, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    with pytest.raises(UserError, match=r"blocknerf\[features\]"):
        _trainer(room, tmp_path, "pose_refinement.mode=features")
