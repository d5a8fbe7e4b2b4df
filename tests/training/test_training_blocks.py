"""Training end to end on a painted room: it learns, it resumes exactly, it loses nothing, it says what is wrong."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from blocknerf.blocks.cost import estimates
from blocknerf.blocks.output import plan_scene
from blocknerf.cli.train import base_config
from blocknerf.core.config.load import load_config
from blocknerf.core.errors import UserError
from blocknerf.core.seeds import generator
from blocknerf.models.block_file import has_block, read_block, read_block_meta
from blocknerf.models.block_nerf import BlockNeRF
from blocknerf.runtime.signals import StopSignal
from blocknerf.scene.readers.read import read_scene
from blocknerf.scene.store import ImageStore
from blocknerf.training.block.inputs import BlockFolders, BlockInputs
from blocknerf.training.block.losses import visibility
from blocknerf.training.block.trainer import BlockNeRFTrainer, Progress
from blocknerf.training.launchers.choose import jobs_that_fit
from blocknerf.training.launchers.processes import ProcessLauncher, _send_progress
from blocknerf.training.launchers.sequential import SequentialLauncher
from blocknerf.training.run.one_block import make_trainer
from blocknerf.training.run.run import Run, open_store
from blocknerf.training.train_blocks import train_blocks
from tests.support.room import write_room

SMALL = (
    "block_manager.max_blocks=1",
    "block_nerf.hash_grid.num_levels=4",
    "block_nerf.hash_grid.log2_table_rows=12",
    "block_nerf.hash_grid.finest_resolution=64",
    "block_nerf.proposal_resolution=24",
    "block_nerf.num_samples_coarse=24",
    "block_nerf.num_samples_fine=16",
    "block_nerf.hidden_dim=32",
    "dataset.batch_size=512",
    "training.num_epochs=5",
    "training.lr_warmup_steps=10",
    "validation.num_val_images=2",
    "logging.use_tensorboard=false",
)
FOUR_BLOCKS = ("block_manager.max_blocks=4", "block_manager.block_size=2", "block_manager.min_images_per_block=3")


@pytest.fixture(scope="module")
def room(tmp_path_factory) -> Path:
    return write_room(tmp_path_factory.mktemp("room"))


def _run(room: Path, out: Path, *overrides: str) -> Run:
    return Run(*plan_scene(load_config(None, [*SMALL, *overrides]), room, out), out)


def _train(run: Run, **options):
    return train_blocks(run, **{"launcher": SequentialLauncher(), **options})


def _trainer(run: Run) -> BlockNeRFTrainer:
    store = ImageStore.open(run.scene, 1, run.output_dir / "store", progress=False)
    block = run.plan.blocks[0]
    return BlockNeRFTrainer(
        BlockInputs(run.config, block, store, run.plan.scene_hash), BlockFolders(run.output_dir / "blocks" / block.id)
    )


def _weights(run: Run, block_id: str = "000") -> dict[str, torch.Tensor]:
    return read_block(run.output_dir / "blocks" / block_id, "latest").tensors


def test_it_learns_the_room(room, tmp_path):
    run = _run(room, tmp_path, "training.num_epochs=15")
    (result,) = _train(run)
    assert result.val_psnr is not None
    assert result.val_psnr > 24
    saved = read_block(tmp_path / "blocks" / "000", "latest")
    assert saved.meta.finished
    assert not has_block(tmp_path / "blocks" / "000", "checkpoint")
    assert BlockNeRF.from_state(saved.meta.model, saved.tensors).appearance is not None


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(room, tmp_path):
    runs = [
        _run(room, tmp_path / str(n), f"training.seed={seed}", "training.num_epochs=1")
        for n, seed in enumerate((1, 1, 2))
    ]
    for run in runs:
        _train(run)
    one, same, other = (_weights(run)["field.grid.table"] for run in runs)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_samples_in_the_middle_leave_dropout_and_places_never_seen_to_chance(room, tmp_path, monkeypatch):
    asked, learned = [], []
    never_seen = visibility._never_seen
    monkeypatch.setattr(visibility, "_never_seen", lambda *given: asked.append(given) or never_seen(*given))
    for dropout in (0.0, 0.5):
        settings = ("block_nerf.perturb_samples=false", f"visibility_network.dropout={dropout}")
        trainer = _trainer(_run(room, tmp_path / str(dropout), *settings))
        for _ in range(3):
            trainer.train_step()
        learned.append(trainer.model.visibility_network().last.weight.detach())
    assert len(asked) == 6
    assert not torch.equal(*learned)
    rays = trainer.sampler.next().rays
    one, other, none = (trainer.model(rays, chance)[1].edges for chance in (generator(1), generator(2), None))
    assert torch.equal(one, other)
    assert torch.equal(one, none)


def test_stopped_and_resumed_is_never_stopped(room, tmp_path):
    """20 steps are 10, a new process' worth of state from disk, and 10 more: bit for bit."""
    whole = _trainer(_run(room, tmp_path / "whole"))
    for _ in range(20):
        whole.train_step()
    run = _run(room, tmp_path / "halves")
    first = _trainer(run)
    for _ in range(10):
        first.train_step()
    first.save()
    second = _trainer(run)
    assert second.resume()
    assert second.step == 10
    for _ in range(10):
        second.train_step()
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, second.model.state_dict()[name]), name
    assert whole.sampler.state() == second.sampler.state()


def test_what_was_learned_is_not_overwritten_unasked(room, tmp_path):
    run = _run(room, tmp_path, "training.num_epochs=1")
    _train(run)
    before = (tmp_path / "blocks" / "000" / "latest.json").read_bytes()
    with pytest.raises(UserError, match="already holds what block 000 has learned.*--resume"):
        _train(run)
    assert _train(run, resume=True) == []
    assert (tmp_path / "blocks" / "000" / "latest.json").read_bytes() == before
    assert len(_train(run, overwrite=True)) == 1


def test_going_on_needs_no_configuration_again(room, tmp_path):
    run = _run(room, tmp_path, "training.num_epochs=1")
    _train(run)
    assert base_config(None, tmp_path, resume=True) == tmp_path / "config.json"
    assert load_config(base_config(None, tmp_path, resume=True), stored=True) == run.config
    assert base_config(None, tmp_path, resume=False) is None
    assert base_config(Path("mine.yaml"), tmp_path, resume=True) == Path("mine.yaml")


def test_an_unknown_block_is_named(room, tmp_path):
    with pytest.raises(UserError, match=r"no block '7'.*000"):
        _train(_run(room, tmp_path), block_ids=("7",))


def test_the_clock_bounds_training(room, tmp_path):
    run = _run(room, tmp_path, "training.num_epochs=100000", "training.max_minutes=0.02")
    (result,) = _train(run)
    assert 1.2 <= result.train_s < 3


def test_not_finite_stops_before_the_optimiser_and_names_the_term(room, tmp_path):
    trainer = _trainer(_run(room, tmp_path))
    with torch.no_grad():
        trainer.model.field.head[-1].bias.fill_(float("nan"))
    before = trainer.model.field.grid.table.detach().clone()
    with pytest.raises(UserError, match="block 000 broke at step 0: rgb is not finite"):
        trainer.train_step()
    assert torch.equal(before, trainer.model.field.grid.table)


def test_masked_images_train_and_validate(room, tmp_path):
    from PIL import Image

    masked = write_room(tmp_path / "masked", images=9)
    for image in (masked / "images").rglob("*.png"):
        mask = Image.new("L", (32, 24), 255)
        mask.paste(0, (0, 0, 32, 8))
        path = masked / "masks" / image.relative_to(masked / "images").with_suffix(".png.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        mask.save(path)
    run = _run(masked, tmp_path / "out", "training.num_epochs=1")
    assert _trainer(run).sampler.num_pixels == 7 * 32 * 16
    assert _train(run)[0].val_psnr is not None


def test_an_image_that_its_mask_hides_wholly_does_no_harm(tmp_path):
    from PIL import Image

    scene = write_room(tmp_path / "scene", images=9)
    for image in sorted((scene / "images").rglob("*.png")):
        mask = scene / "masks" / f"{image.relative_to(scene / 'images')}.png"
        mask.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (32, 24), 255).save(mask)
    first = _run(scene, tmp_path / "plan").plan.blocks[0].train_images[0]
    name = next(image.name for image in read_scene(scene, load_config(None).dataset).images if image.id == first)
    Image.new("L", (32, 24), 0).save(scene / "masks" / f"{name}.png")
    run = _run(scene, tmp_path / "out", "training.num_epochs=1")
    assert run.plan.blocks[0].train_images[0] == first
    assert len(_train(run)) == 1


def test_blocks_in_processes_are_the_blocks_of_one_process(room, tmp_path):
    """Independent of workers and order, as long as each has the same number of threads."""
    overrides = (*FOUR_BLOCKS, "training.num_epochs=1")
    apart, together = _run(room, tmp_path / "apart", *overrides), _run(room, tmp_path / "together", *overrides)
    assert len(apart.plan.blocks) >= 2
    results = _train(together, launcher=ProcessLauncher(2))
    assert {result.block_id for result in results} == {block.id for block in together.plan.blocks}
    from blocknerf.runtime.threads import use_threads

    trainer = _trainer(apart)
    use_threads(1)
    trainer.train()
    one, other = _weights(apart), _weights(together)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_as_many_blocks_at_once_as_cores_and_memory_allow(room, tmp_path, monkeypatch):
    run = _run(room, tmp_path, *FOUR_BLOCKS)
    blocks = list(run.plan.blocks)
    (most_gb,) = {max(cost.memory_gb for cost in estimates(blocks, run.scene, run.config))}
    for cores, free, jobs in [(64, 1e3, len(blocks)), (2, 1e3, 2), (64, 2.6 * most_gb, 2), (64, 0.1, 1)]:
        monkeypatch.setattr("blocknerf.training.launchers.choose.available_cores", lambda cores=cores: cores)
        monkeypatch.setattr("blocknerf.training.launchers.choose.free_gb", lambda free=free: free)
        assert jobs_that_fit(run, blocks) == jobs
    assert jobs_that_fit(run, blocks[:1]) == 1


def test_blocks_that_share_a_machine_take_as_much_longer(room, tmp_path):
    run = _run(room, tmp_path, "training.max_minutes=2")
    store = open_store(run, progress=False)
    alone, of_three = (make_trainer(r, run.plan.blocks[0], store, print) for r in (run, replace(run, at_once=3)))
    assert of_three.budget_s == 3 * alone.budget_s == 360


def test_a_damaged_checkpoint_is_named(room, tmp_path):
    run = _run(room, tmp_path)
    trainer = _trainer(run)
    trainer.train_step()
    trainer.save()
    (weights,) = (tmp_path / "blocks" / "000").glob("checkpoint-*.safetensors")
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UserError, match=str(weights)):
        _train(run, resume=True)


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_being_stopped_saves_and_says_how_to_go_on(room, tmp_path, stop):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "blocknerf", "train", "--data-root", str(room), "--output-dir", str(out)]
    command += [*SMALL, "training.num_epochs=100000", "logging.log_freq=1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ})
    log_file = out / "logs" / "train.log"
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and not (log_file.is_file() and "Training block" in log_file.read_text()):
        time.sleep(0.2)
    time.sleep(1.0)
    process.send_signal(stop)
    output, _ = process.communicate(timeout=180)
    assert process.returncode == 130, output
    assert "--resume" in output
    assert "Traceback" not in output
    meta = read_block_meta(out / "blocks" / "000", "checkpoint")
    assert meta.step > 0


def test_a_worker_that_dies_is_named_with_its_log_and_the_others_finish(room, tmp_path):
    """Killed as a machine without memory does it; the same command with --resume then does the rest."""
    several = ("block_manager.max_blocks=4", "block_manager.block_size=2", "block_manager.min_images_per_block=2")
    run = _run(room, tmp_path, *several, "training.max_steps=40", "logging.log_freq=1", "validation.num_val_images=0")
    block_ids = tuple(block.id for block in run.plan.blocks[:3])
    victim = block_ids[0]

    def kill_it_once_it_learns(block_id, progress):
        for process in multiprocessing.active_children() if block_id == victim else ():
            if process.name == victim:
                process.kill()

    with pytest.raises(UserError, match="1 of 3 blocks failed") as caught:
        train_blocks(run, block_ids, report=kill_it_once_it_learns, launcher=ProcessLauncher(2))
    assert f"{victim}: its process ended with code -9." in str(caught.value)
    assert str(tmp_path / "logs") in str(caught.value)
    assert (tmp_path / "logs" / f"{victim}.log").is_file()
    for block_id in block_ids[1:]:
        assert read_block_meta(tmp_path / "blocks" / block_id, "latest").finished
    results = _train(run, block_ids=block_ids, resume=True)
    assert [result.block_id for result in results] == [victim]


def test_a_worker_whose_parent_was_killed_stops():
    listens, sender = multiprocessing.Pipe(duplex=False)
    stop, progress = StopSignal(), Progress(0.5, 1, 1.0, 20.0, 1.0)
    _send_progress(sender, stop, progress)
    assert listens.recv() == progress
    assert not stop.requested
    listens.close()
    _send_progress(sender, stop, progress)
    assert stop.requested
