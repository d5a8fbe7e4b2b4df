"""What a killed run goes on from: everything or nothing, and one sentence where it is something else."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from blocknerf.blocks.output import plan_scene
from blocknerf.city.block_file import has_block, read_block, read_block_meta
from blocknerf.core.config import load_config
from blocknerf.core.errors import UserError
from blocknerf.scene.store import ImageStore
from blocknerf.training.checkpoint import SIDE_BY_SIDE
from blocknerf.training.run import Run, train_blocks
from blocknerf.training.trainer import BlockNeRFTrainer

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from room import write_room

TINY = (
    "block_manager.max_blocks=1",
    "block_manager.min_images_per_block=1",
    "block_nerf.hash_grid.num_levels=4",
    "block_nerf.hash_grid.log2_table_rows=8",
    "block_nerf.proposal_resolution=12",
    "block_nerf.num_samples_coarse=8",
    "block_nerf.num_samples_fine=8",
    "block_nerf.hidden_dim=16",
    "dataset.batch_size=32",
    "dataset.test_every=4",
    "training.max_steps=20",
    "training.num_epochs=10",
    "training.checkpoint_minutes=1e-9",
    "logging.use_tensorboard=false",
)

KILLED_AFTER_TEN_STEPS = """
import os, signal, sys
from pathlib import Path
from blocknerf.blocks.output import plan_scene
from blocknerf.core.config import load_config
from blocknerf.training.run import Run, train_blocks

room, out, *overrides = sys.argv[1:]
run = Run(*plan_scene(load_config(None, [*overrides, "logging.log_freq=1"]), Path(room), Path(out)), Path(out))

def report(block_id, progress):
    if progress.step == 11:  # before its save: the last is of step 10
        os.kill(os.getpid(), signal.SIGKILL)

train_blocks(run, (), 1, False, False, report)
"""


@pytest.fixture(scope="module")
def room(tmp_path_factory) -> Path:
    return write_room(tmp_path_factory.mktemp("room"), images=4, width=16, height=12)


def _run(room: Path, out: Path, *overrides: str) -> Run:
    return Run(*plan_scene(load_config(None, [*TINY, *overrides]), room, out), out)


def _train(run: Run, resume: bool = False) -> None:
    train_blocks(run, (), 1, resume, False, lambda block_id, progress: None)


def _trainer(run: Run) -> BlockNeRFTrainer:
    store = ImageStore.open(run.scene, 1, run.output_dir / "store", progress=False)
    block = run.plan.blocks[0]
    return BlockNeRFTrainer(run.config, block, store, run.plan.scene_hash, run.block_folder(block.id))


def _saved(run: Run) -> tuple[BlockNeRFTrainer, Path]:
    """After three steps, and its checkpoint's JSON."""
    trainer = _trainer(run)
    for _ in range(3):
        trainer._train_step()
    trainer.save()
    return trainer, trainer.folder / "checkpoint.json"


def test_twenty_steps_are_ten_a_kill_and_ten_bit_for_bit(room, tmp_path):
    whole = _run(room, tmp_path / "whole")
    _train(whole)
    killed = [sys.executable, "-c", KILLED_AFTER_TEN_STEPS, str(room), str(tmp_path / "killed"), *TINY]
    assert subprocess.run(killed, capture_output=True, check=False).returncode == -signal.SIGKILL
    folder = tmp_path / "killed" / "blocks" / "000"
    assert read_block_meta(folder, "checkpoint")["step"] == 10
    _train(_run(room, tmp_path / "killed"), resume=True)
    one = read_block(whole.block_folder("000"), "latest")
    other = read_block(folder, "latest")
    assert one.meta["step"] == other.meta["step"] == 20
    assert one.tensors.keys() == other.tensors.keys()
    assert all(torch.equal(one.tensors[name], other.tensors[name]) for name in one.tensors)
    assert not has_block(folder, "checkpoint")


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("block_id", "007", "it is of block 007, not 000"),
        ("scene_hash", "beef", "its scene has the hash beef"),
        ("image_ids", ["stranger"], "images that are not the block's: stranger"),
    ],
)
def test_a_foreign_checkpoint_is_told_by_what_differs(room, tmp_path, key, value, named):
    run = _run(room, tmp_path)
    _, path = _saved(run)
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(UserError, match=named):
        _trainer(run).resume()


def test_another_configuration_is_told_by_its_key(room, tmp_path):
    run = _run(room, tmp_path)
    _, path = _saved(run)
    meta = json.loads(path.read_text())
    meta["model"]["config"]["training"]["seed"] = 5
    path.write_text(json.dumps(meta))
    with pytest.raises(UserError, match=r"training\.seed 5 -> 42"):
        _trainer(run).resume()


def test_none_is_begun_anew_and_half_a_file_is_named(room, tmp_path):
    run = _run(room, tmp_path)
    assert not _trainer(run).resume()
    _, path = _saved(run)
    (weights,) = path.parent.glob("checkpoint-*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(UserError, match="checkpoint"):
        _trainer(run).resume()
    weights.unlink()
    with pytest.raises(UserError, match="checkpoint"):
        _trainer(run).resume()


def test_an_older_version_without_named_parts_is_a_sentence(room, tmp_path):
    run = _run(room, tmp_path)
    _, path = _saved(run)
    meta = json.loads(path.read_text())
    del meta["parts"], meta["state"]
    path.write_text(json.dumps(meta))
    with pytest.raises(UserError, match=r"another version of the program|this version of the program"):
        _trainer(run).resume()


def test_save_freq_keeps_states_and_checkpoint_dir_moves_them(room, tmp_path):
    run = _run(room, tmp_path, "validation.save_freq=0.5", "output.checkpoint_dir=elsewhere")
    _train(run)
    kept = sorted(path.stem for path in (tmp_path / "elsewhere" / "000").glob("step_*.json"))
    assert kept == ["step_000009", "step_000018"]  # an epoch is 18 steps
    assert has_block(tmp_path / "elsewhere" / "000", "best")
    assert [path.stem for path in run.block_folder("000").glob("*.json")] == ["latest"]
    state = read_block(tmp_path / "elsewhere" / "000", "step_000009").meta["state"]
    assert state["trainer.step"] == 9


def test_best_are_the_weights_of_the_highest_psnr(room, tmp_path):
    trainer = _trainer(_run(room, tmp_path))
    for psnr, weight in ((20.0, 1.0), (30.0, 2.0), (25.0, 3.0)):
        with torch.no_grad():
            next(trainer.model.parameters()).fill_(weight)
        if trainer.metrics.validated({"psnr": psnr}, 1):
            trainer.checkpoint.save_best()
    best = read_block(trainer.folder, "best")
    name, _ = next(trainer.model.named_parameters())
    assert best.meta["best_psnr"] == 30.0
    assert bool((best.tensors[name] == 2.0).all())


def test_every_way_of_saving_holds_the_present_random_state(room, tmp_path):
    """Not that of the save before: what is drawn next would have been drawn already."""
    trainer = _trainer(_run(room, tmp_path))
    trainer.save()
    trainer._train_step()
    trainer.checkpoint.prepare()
    again = _trainer(_run(room, tmp_path))
    assert again.resume(SIDE_BY_SIDE)
    assert torch.equal(again.rng.get_state(), trainer.rng.get_state())
