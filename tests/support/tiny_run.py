"""A run of one block that is over in a second, what it leaves on the disk, and a disk that is full for a while."""

import errno
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from blocknerf.blocks.output import plan_scene
from blocknerf.core import disk
from blocknerf.core.config.load import load_config
from blocknerf.models.block_file import read_block
from blocknerf.scene.store import ImageStore
from blocknerf.training.block.inputs import BlockFolders, BlockInputs
from blocknerf.training.block.trainer import BlockNeRFTrainer
from blocknerf.training.launchers.sequential import SequentialLauncher
from blocknerf.training.run.run import Run
from blocknerf.training.train_blocks import train_blocks
from tests.support.small_field import SMALL_HASH

TINY = (
    *SMALL_HASH,
    "block_manager.max_blocks=1",
    "block_manager.min_images_per_block=1",
    "dataset.batch_size=32",
    "dataset.test_every=4",
    "training.max_steps=20",
    "training.num_epochs=10",
    "training.checkpoint_minutes=1e-9",
    "logging.use_tensorboard=false",
)


def tiny_run(room: Path, out: Path, *overrides: str, base: Sequence[str] = TINY) -> Run:
    return Run(*plan_scene(load_config(None, [*base, *overrides]), room, out), out)


def train(run: Run, resume: bool = False, report: Any = lambda block_id, progress: None) -> None:
    train_blocks(run, resume=resume, report=report, launcher=SequentialLauncher())


def trainer_of(run: Run) -> BlockNeRFTrainer:
    store = ImageStore.open(run.scene, 1, run.output_dir / "store", progress=False)
    block = run.plan.blocks[0]
    return BlockNeRFTrainer(
        BlockInputs(run.config, block, store, run.plan.scene_hash), BlockFolders(run.block_folder(block.id))
    )


def saved_after_three(run: Run) -> tuple[BlockNeRFTrainer, Path]:
    """After three steps, and its checkpoint's JSON."""
    trainer = trainer_of(run)
    for _ in range(3):
        trainer.train_step()
    trainer.save()
    return trainer, trainer.folders.block / "checkpoint.json"


def same_weights(one: Path, other: Path, name: str = "latest") -> bool:
    """Whether two folders of a block hold the same tensors, of the same step."""
    left, right = read_block(one, name), read_block(other, name)
    equal = left.meta.step == right.meta.step and left.tensors.keys() == right.tensors.keys()
    return equal and all(torch.equal(left.tensors[key], right.tensors[key]) for key in left.tensors)


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file of an output folder but its log, which every start writes."""
    found = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if not name.startswith("logs/")}


class FullDisk:
    """While `is_full`, new files end in their middle, as on a disk without room."""

    def __init__(self, monkeypatch):
        self.is_full = False
        monkeypatch.setattr(disk, "_fault", self._fault)

    def _fault(self, kind: str, path: str, do: Callable[[], Any], half: Callable[[], Any] | None) -> Any:
        if not (self.is_full and kind == "write" and disk.is_unfinished(Path(path).name)):
            return do()
        assert half is not None
        half()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
