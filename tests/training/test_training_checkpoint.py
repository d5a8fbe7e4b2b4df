"""What a killed run goes on from: everything or nothing, and one sentence where it is something else."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

from blocknerf.core.errors import UserError
from blocknerf.core.files import write_json
from blocknerf.models.block_file import has_block, read_block, read_block_meta, write_block
from blocknerf.scene import resident
from blocknerf.training.block.checkpoint import SIDE_BY_SIDE
from blocknerf.training.block.metrics import CLOCK, FILE
from tests.support.room import write_room
from tests.support.tiny_run import (
    TINY,
    FullDisk,
    same_weights,
    saved_after_three,
    snapshot,
    tiny_run,
    train,
    trainer_of,
)

LINE_BY_LINE = ("logging.log_freq=1", "validation.val_freq=0.2")  # an epoch is 18 steps
KILLED_AT_STEP_15_SAVED_AT_10 = """
import os, signal, sys
from pathlib import Path
from blocknerf.blocks.output import plan_scene
from blocknerf.core.config.load import load_config
from blocknerf.training.run.run import Run
from blocknerf.training.launchers.sequential import SequentialLauncher
from blocknerf.training.train_blocks import train_blocks
from blocknerf.training.block.trainer import BlockNeRFTrainer

room, out, *overrides = sys.argv[1:]
run = Run(*plan_scene(load_config(None, overrides), Path(room), Path(out)), Path(out))
save = BlockNeRFTrainer.save
BlockNeRFTrainer.save = lambda trainer: save(trainer) if trainer.step <= 10 else None

def report(block_id, progress):
    if progress.step == 15:
        os.kill(os.getpid(), signal.SIGKILL)

train_blocks(run, report=report, launcher=SequentialLauncher())
"""


@pytest.fixture(scope="module")
def room(tmp_path_factory) -> Path:
    return write_room(tmp_path_factory.mktemp("room"), images=4, width=16, height=12)


@pytest.fixture(scope="module")
def whole(room, tmp_path_factory) -> Path:
    """The block's folder after a run that nothing disturbed."""
    run = tiny_run(room, tmp_path_factory.mktemp("whole"), *LINE_BY_LINE)
    train(run)
    return run.block_folder("000")


@pytest.fixture(scope="module")
def killed(room, tmp_path_factory) -> Path:
    """The block's folder after a kill five steps behind the last save, and going on from there."""
    out = tmp_path_factory.mktemp("killed")
    settings = (*TINY, *LINE_BY_LINE)
    command = [sys.executable, "-c", KILLED_AT_STEP_15_SAVED_AT_10, str(room), str(out), *settings]
    assert subprocess.run(command, capture_output=True, check=False).returncode == -signal.SIGKILL
    folder = out / "blocks" / "000"
    assert read_block_meta(folder, "checkpoint").step == 10
    assert max(line["step"] for line in _figures(folder)) == 14
    train(tiny_run(room, out, *LINE_BY_LINE), resume=True)
    return folder


def _figures(folder: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (folder / FILE).read_text().splitlines()]
    return [{name: value for name, value in line.items() if not name.startswith(CLOCK)} for line in lines]


def test_twenty_steps_are_ten_a_kill_and_ten_bit_for_bit(whole, killed):
    assert read_block_meta(whole, "latest").step == 20
    assert same_weights(whole, killed)
    assert same_weights(whole, killed, "best")
    assert not has_block(killed, "checkpoint")


def test_figures_of_a_killed_run_are_those_of_one_never_disturbed(whole, killed):
    assert _figures(killed) == _figures(whole)
    steps = [line["step"] for line in _figures(whole) if "loss/rgb" in line]
    assert steps == list(range(1, 21))
    validated = [line["step"] for line in _figures(whole) if "validation/psnr" in line]
    assert validated == [4, 8, 12, 16, 20]


def _unsigned(path: Path) -> dict[str, Any]:
    """What the JSON of a checkpoint says, without the checksum, so that it may be changed."""
    meta = json.loads(path.read_text())
    del meta["checksum"]
    return meta


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("block_id", "007", "it is of block 007, not 000"),
        ("scene_hash", "beef", "its scene has the hash beef"),
        ("image_ids", ["stranger"], "images that are not the block's: stranger"),
    ],
)
def test_a_foreign_checkpoint_is_told_by_what_differs(room, tmp_path, key, value, named):
    run = tiny_run(room, tmp_path)
    _, path = saved_after_three(run)
    write_json(path, _unsigned(path) | {key: value})
    with pytest.raises(UserError, match=named):
        trainer_of(run).resume()


def test_another_configuration_is_told_by_its_key(room, tmp_path):
    run = tiny_run(room, tmp_path)
    _, path = saved_after_three(run)
    meta = _unsigned(path)
    meta["model"]["config"]["training"]["seed"] = 5
    path.write_text(json.dumps(meta))
    with pytest.raises(UserError, match=r"training\.seed 5 -> 42"):
        trainer_of(run).resume()


def test_where_none_is_there_training_begins(room, tmp_path):
    assert not trainer_of(tiny_run(room, tmp_path)).resume()


def test_an_older_version_without_named_parts_is_a_sentence(room, tmp_path):
    run = tiny_run(room, tmp_path)
    _, path = saved_after_three(run)
    meta = _unsigned(path)
    del meta["parts"], meta["state"]
    path.write_text(json.dumps(meta))
    with pytest.raises(UserError, match="another version of the program|this version of"):
        trainer_of(run).resume()


def test_a_checkpoint_with_what_is_no_number_is_not_gone_on_from(room, tmp_path):
    run = tiny_run(room, tmp_path)
    _, path = saved_after_three(run)
    saved = read_block(path.parent, path.stem)
    name = next(name for name in saved.tensors if name.startswith("optimizer."))
    saved.tensors[name] = torch.full_like(saved.tensors[name], torch.nan, dtype=torch.float32)
    write_block(path.parent, path.stem, saved)
    with pytest.raises(UserError, match=f"holds values that are not finite, in {name}"):
        trainer_of(run).resume()


def test_save_freq_keeps_states_and_checkpoint_dir_moves_them(room, tmp_path):
    run = tiny_run(room, tmp_path, "validation.save_freq=0.5", "output.checkpoint_dir=elsewhere")
    train(run)
    kept = sorted(path.stem for path in (tmp_path / "elsewhere" / "000").glob("step_*.json"))
    assert kept == ["step_000009", "step_000018"]  # an epoch is 18 steps
    assert has_block(tmp_path / "elsewhere" / "000", "best")
    assert [path.stem for path in run.block_folder("000").glob("*.json")] == ["latest"]
    state = read_block(tmp_path / "elsewhere" / "000", "step_000009").meta.state
    assert state["trainer.step"] == 9


def test_best_are_the_weights_of_the_highest_psnr(room, tmp_path):
    trainer = trainer_of(tiny_run(room, tmp_path))
    for psnr, weight in ((20.0, 1.0), (30.0, 2.0), (25.0, 3.0)):
        with torch.no_grad():
            next(trainer.model.parameters()).fill_(weight)
        if trainer.metrics.validated({"psnr": psnr}, 1):
            trainer.checkpoint.save_best()
    best = read_block(trainer.folders.block, "best").to_render()
    name, _ = next(trainer.model.named_parameters())
    assert best.meta.best_psnr == 30.0
    assert bool((best.tensors[name] == 2.0).all())


def test_every_way_of_saving_holds_the_present_random_state(room, tmp_path):
    """Not that of the save before: what is drawn next would have been drawn already."""
    trainer = trainer_of(tiny_run(room, tmp_path))
    trainer.save()
    trainer.train_step()
    trainer.checkpoint.prepare()
    again = trainer_of(tiny_run(room, tmp_path))
    assert again.resume(SIDE_BY_SIDE)
    assert torch.equal(again.rng.get_state(), trainer.rng.get_state())


def _messages(warning: mock.Mock) -> list[str]:
    return [call.args[0] % call.args[1:] for call in warning.call_args_list]


def test_a_disk_that_is_full_for_a_while_costs_saves_and_nothing_else(room, whole, tmp_path, monkeypatch):
    run, disk = tiny_run(room, tmp_path, *LINE_BY_LINE), FullDisk(monkeypatch)
    folder = run.block_folder("000")
    saved = {}

    def report(block_id, progress):  # before the save of its step
        disk.is_full = 6 <= progress.step < 12
        if progress.step in (7, 12, 14):
            saved[progress.step] = read_block(folder, "checkpoint").meta.step
        if progress.step == 7:
            saved["files"] = snapshot(folder).keys() - {FILE}
        if progress.step == 12:
            assert snapshot(folder).keys() - {FILE} == saved["files"]

    with mock.patch("blocknerf.training.block.trainer.log.warning") as warning:
        train(run, report=report)
    assert saved[7] == saved[12] == 5
    assert saved[14] == 13
    assert len(_messages(warning)) == 7  # six saves, and the best weights at step 8
    assert all("Block 000 continues unsaved. Cannot write" in text for text in _messages(warning))
    assert all("No space left on device" in text for text in _messages(warning))
    assert same_weights(whole, folder)


def test_a_disk_that_is_full_at_the_end_is_an_error_and_the_end_can_be_had_later(room, whole, tmp_path, monkeypatch):
    run, disk = tiny_run(room, tmp_path, *LINE_BY_LINE), FullDisk(monkeypatch)

    def report(block_id, progress):
        disk.is_full = progress.step >= 18

    with pytest.raises(UserError, match="Cannot write .*latest-.*No space left on device"):
        train(run, report=report)
    assert read_block(run.block_folder("000"), "checkpoint").meta.step == 17
    disk.is_full = False
    train(run, resume=True)
    assert same_weights(whole, run.block_folder("000"))
    assert _figures(run.block_folder("000")) == _figures(whole)


def test_a_block_larger_than_its_budget_goes_on_exactly(room, tmp_path, monkeypatch, caplog):
    """training.ram_budget_gb: other pixels than without it, the same ones after a kill, and a word about it."""
    monkeypatch.setattr(resident, "PASSES_PER_EPOCH", 4)
    monkeypatch.setattr(resident, "_FEWEST_PIECES", 8)
    small = "training.ram_budget_gb=9e-7"
    whole, broken, free = (
        tiny_run(room, tmp_path / name, *wanted)
        for name, wanted in (("whole", (small,)), ("broken", (small,)), ("free", ()))
    )
    train(whole)
    assert "of them are in memory at a time" in caplog.text
    caplog.clear()
    train(free)
    assert "in memory at a time" not in caplog.text
    trainer, _ = saved_after_three(broken)
    for _ in range(4):
        trainer.train_step()
    train(broken, resume=True)
    assert same_weights(whole.block_folder("000"), broken.block_folder("000"))
    assert not same_weights(whole.block_folder("000"), free.block_folder("000"))
