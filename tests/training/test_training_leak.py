"""No pixel of a test image reaches what is learned: two scenes that differ in their test photographs alone."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from blocknerf.blocks.output import plan_scene
from blocknerf.core.config.load import load_config
from blocknerf.core.types import Appearance
from blocknerf.models.block_file import read_block
from blocknerf.models.block_nerf import BlockNeRF
from blocknerf.scene.splits import split_images
from blocknerf.scene.store import ImageStore
from blocknerf.training.launchers.sequential import SequentialLauncher
from blocknerf.training.run.run import Run
from blocknerf.training.train_blocks import train_blocks
from tests.support.room import write_room
from tests.support.small_field import SMALL_HASH

SMALL = (
    "block_manager.max_blocks=1",
    *SMALL_HASH,
    "dataset.batch_size=256",
    "training.num_epochs=1",
    "training.lr_warmup_steps=5",
    "validation.val_freq=0.25",
    "validation.num_val_images=2",
    "logging.use_tensorboard=false",
)


def _train(scene: Path, out: Path) -> Run:
    run = Run(*plan_scene(load_config(None, SMALL), scene, out), out)
    train_blocks(run, launcher=SequentialLauncher())
    return run


def _poison(scene: Path, names: set[str]) -> None:
    """Noise in the place of the photographs: their size stays, everything else goes."""
    noise = np.random.default_rng(0)
    for path in sorted(scene.rglob("*.png")):
        if str(path.relative_to(scene / "images")) in names:
            with Image.open(path) as photograph:
                width, height = photograph.size
            Image.fromarray(noise.integers(0, 255, (height, width, 3), np.uint8)).save(path)


@pytest.fixture(scope="module")
def clean_and_poisoned(tmp_path_factory) -> tuple[Run, Run]:
    folder = tmp_path_factory.mktemp("leak")
    clean = _train(write_room(folder / "clean"), folder / "out_clean")
    shutil.copytree(folder / "clean", folder / "poisoned")
    _, test = split_images(clean.scene, clean.config.dataset.test_every)
    _poison(folder / "poisoned", {image.name.removeprefix("images/") for image in test})
    return clean, _train(folder / "poisoned", folder / "out_poisoned")


def _ids(run: Run) -> tuple[list[str], list[str]]:
    train, test = split_images(run.scene, run.config.dataset.test_every)
    return [image.id for image in train], [image.id for image in test]


def test_the_poison_arrived_in_test_images_alone(clean_and_poisoned):
    stores = [ImageStore.open(run.scene, 1, run.output_dir / "store", progress=False) for run in clean_and_poisoned]
    (train, test), (same_train, other_test) = map(_ids, clean_and_poisoned)
    assert train == same_train
    assert len(test) == len(other_test) == 2
    assert set(test).isdisjoint(other_test)
    for image_id in train:
        assert np.array_equal(stores[0].rgb(image_id), stores[1].rgb(image_id))
    for image_id, other_id in zip(test, other_test, strict=True):
        assert not np.array_equal(stores[0].rgb(image_id), stores[1].rgb(other_id))


def test_plans_are_equal_but_for_the_names_of_test_images(clean_and_poisoned):
    trees = [json.loads((run.output_dir / "plan.json").read_text()) for run in clean_and_poisoned]
    for tree, run in zip(trees, clean_and_poisoned, strict=True):
        assert tree.pop("scene_hash") == run.plan.scene_hash
        del tree["checksum"]
        assert all(set(block.pop("test_images")) == set(_ids(run)[1]) for block in tree["blocks"])
    assert trees[0] == trees[1]


def test_everything_learned_is_equal_bit_for_bit(clean_and_poisoned):
    clean, poisoned = (read_block(run.output_dir / "blocks" / "000", "latest") for run in clean_and_poisoned)
    assert clean.meta.step == poisoned.meta.step > 30
    assert clean.tensors.keys() == poisoned.tensors.keys()
    for name, tensor in clean.tensors.items():
        assert torch.equal(tensor, poisoned.tensors[name]), name
    assert clean.meta.model == poisoned.meta.model
    assert clean.meta.best_psnr != poisoned.meta.best_psnr, "validation looked at the test images, and may"


def test_codes_that_test_images_are_rendered_with_are_equal(clean_and_poisoned):
    models = []
    for run in clean_and_poisoned:
        block = read_block(run.output_dir / "blocks" / "000", "latest")
        models.append(BlockNeRF.from_state(block.meta.model, block.tensors))
    drives = {image.drive for image in clean_and_poisoned[0].scene.images}
    assert len(drives) == 2
    for drive in (*sorted(drives), None):
        one, other = (model.code_for(Appearance(drive=drive)) for model in models)
        assert one is not None
        assert other is not None
        assert torch.equal(one, other)
        assert float(one.abs().max()) > 0
