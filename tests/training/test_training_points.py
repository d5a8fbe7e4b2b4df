"""Training with sparse points: distances become right sooner, parts of a step add up, and no weight is no change."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from blocknerf.scene.sampler import PixelSampler
from blocknerf.scene.store import ImageStore
from blocknerf.training.block.inputs import BlockFolders, BlockInputs
from blocknerf.training.block.losses.block_nerf_loss import POINTS_END_SHARE
from blocknerf.training.block.trainer import BlockNeRFTrainer
from blocknerf.training.run.one_block import block_inputs
from blocknerf.training.run.run import Run
from tests.support.golden_losses import logged_terms
from tests.support.room import wall_distances_m
from tests.support.seen_points import write_seen_points
from tests.support.small_field import SMALL
from tests.support.tiny_run import tiny_run, train

BASE = (
    "block_manager.max_blocks=1",
    "dataset.batch_size=256",
    "dataset.test_every=0",
    "dataset.image_downsample=2",
    "training.num_epochs=1000",
    "training.max_steps=60",
    "training.lr_warmup_steps=10",
    "training.use_visibility_network=false",
    "validation.num_val_images=0",
    "logging.use_tensorboard=false",
    "logging.log_freq=1",
)
RATES = {"hash": (), "mlp": ("training.nerf_lr=4e-3",)}
both = pytest.mark.parametrize("backbone", SMALL)


@pytest.fixture(scope="module")
def room(tmp_path_factory) -> Path:
    return write_seen_points(tmp_path_factory.mktemp("room"))


def _run(room: Path, out: Path, backbone: str, *overrides: str) -> Run:
    return tiny_run(room, out, *overrides, base=(*SMALL[backbone], *BASE, *RATES[backbone]))


def _inputs(run: Run) -> BlockInputs:
    store = ImageStore.open(run.scene, 2, run.output_dir / "store", progress=False)
    return block_inputs(run, run.plan.blocks[0], store)


def _trainer(inputs: BlockInputs, folder: Path) -> BlockNeRFTrainer:
    return BlockNeRFTrainer(inputs, BlockFolders(folder))


def _median_error(trainer: BlockNeRFTrainer, store: ImageStore) -> float:
    """Of logarithms of distances, at pixels anywhere."""
    rays = PixelSampler(store, store.image_ids, 600, seed=5).next().rays
    true_m = wall_distances_m(rays.origins.numpy(), rays.directions.numpy())[:, 0]
    return float(np.median(np.abs(np.log(trainer.model.render(rays).distance_m.numpy() / true_m))))


@both
def test_with_points_distances_are_right_sooner(room, tmp_path, backbone):
    inputs = _inputs(_run(room, tmp_path, backbone, "training.point_loss_weight=0.1"))
    assert inputs.points is not None
    errors = {}
    for name, of_it in (("with", inputs), ("without", replace(inputs, points=None))):
        trainer = _trainer(of_it, tmp_path / name)
        trainer.train()
        errors[name] = _median_error(trainer, inputs.store)
    assert errors["with"] < 0.7 * errors["without"], errors


@both
def test_without_weight_a_block_is_that_of_a_capture_without_points(room, tmp_path, backbone):
    weightless = _inputs(_run(room, tmp_path / "weightless", backbone, "training.point_loss_weight=0"))
    usual = _inputs(_run(room, tmp_path / "usual", backbone))
    assert usual.points is not None
    states = []
    for name, inputs in (("0", weightless), ("none", replace(usual, points=None)), ("points", usual)):
        trainer = _trainer(inputs, tmp_path / name)
        for _ in range(3):
            trainer.train_step()
        states.append(trainer.model.state_dict())
    same = [all(torch.equal(tensor, other[name]) for name, tensor in states[0].items()) for other in states[1:]]
    assert same == [True, False]


@both
def test_points_count_as_much_in_parts(room, tmp_path, backbone):
    """Also where some parts have no ray that ends in a point."""
    inputs = _inputs(_run(room, tmp_path, backbone))
    gradients, terms = [], []
    for size in (256, 60):
        trainer = _trainer(inputs, tmp_path / str(size))
        memory, loss_of = trainer.stepper.memory, trainer.stepper.loss_of
        memory.parts.size = size
        batch = trainer.sampler.next()
        terms.append(memory.backward(batch, lambda part, loss_of=loss_of: loss_of(part, 0, None), None))
        gradients.append([gradient.clone() for gradient in trainer.stepper.optimizer.gradients_of_all()])
    assert {name: float(term) for name, term in terms[0].items()} == pytest.approx(
        {name: float(term) for name, term in terms[1].items()}, rel=1e-3
    )
    for whole, parts in zip(*gradients, strict=True):
        assert float((whole - parts).norm()) <= 1e-3 * float(whole.norm()) + 1e-9


def test_the_term_is_logged_by_name_and_falls_beyond_what_its_share_falls(room, tmp_path):
    run = _run(room, tmp_path, "hash", "training.max_steps=40", "training.point_loss_weight=0.1")
    train(run)
    (block,) = run.plan.blocks
    terms = [step["points"] for step in logged_terms(run.block_folder(block.id) / "metrics.jsonl")]
    assert len(terms) == 40
    likelihoods = np.array(terms) / POINTS_END_SHARE ** (np.arange(40) / 40)
    assert np.mean(likelihoods[-5:]) < 0.9 * np.mean(likelihoods[:5]), likelihoods


def test_resumed_is_never_stopped(room, tmp_path):
    inputs = _inputs(_run(room, tmp_path, "hash"))
    whole, first = (_trainer(inputs, tmp_path / name) for name in ("whole", "halves"))
    for _ in range(4):
        whole.train_step()
    for _ in range(2):
        first.train_step()
    first.save()
    second = _trainer(inputs, tmp_path / "halves")
    assert second.resume()
    for _ in range(2):
        second.train_step()
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, second.model.state_dict()[name]), name
