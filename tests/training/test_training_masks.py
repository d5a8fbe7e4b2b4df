"""What a mask hides teaches nothing: with any colours there, the weights come out the same, to the bit."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from blocknerf.blocks.output import plan_scene
from blocknerf.core.config.dataset import DatasetConfig
from blocknerf.core.config.load import load_config
from blocknerf.models.block_file import read_block
from blocknerf.scene.readers.read import read_scene
from blocknerf.scene.sampler import PixelSampler
from blocknerf.scene.store import ImageStore
from blocknerf.training.block import pose_setup
from blocknerf.training.block.inputs import BlockFolders, BlockInputs
from blocknerf.training.block.trainer import BlockNeRFTrainer
from tests.support.loss_terms import EVERY_TERM
from tests.support.room import write_room
from tests.support.small_field import SMALL_HASH

SETTINGS = (
    *SMALL_HASH,
    "block_manager.max_blocks=1",
    "dataset.batch_size=256",
    "dataset.image_downsample=2",
    "training.num_epochs=1",
    "training.lr_warmup_steps=1",
    "training.use_pose_refinement=true",
    "pose_refinement.mode=image",
    "logging.use_tensorboard=false",
)


def hidden_pixels(seed: int) -> np.ndarray:
    """Blobs and single pixels, so that pixels of the training size are hidden in part and as a whole."""
    generator = np.random.default_rng(seed)
    hidden = generator.random((24, 32)) < 0.02
    row, column = generator.integers(0, 16, 2)
    hidden[row : row + 8, column : column + 10] = True
    return hidden


@pytest.fixture(scope="module")
def room(tmp_path_factory) -> Path:
    folder = write_room(tmp_path_factory.mktemp("room"), depth=True)
    for number, image in enumerate(read_scene(folder, DatasetConfig()).images):
        path = folder / "masks" / f"{image.name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.where(hidden_pixels(number), 0, 255).astype(np.uint8)).save(path)
    return folder


def trained(room: Path, out: Path, poison, *overrides: str) -> dict[str, torch.Tensor]:
    """The weights after a pass, the photographs being what `poison(rgb, hidden)` makes of them."""
    config = load_config(None, [*SETTINGS, *overrides])
    settings, scene, plan = plan_scene(config, room, out)
    images = []
    for number, image in enumerate(scene.images):
        rgb = np.array(Image.open(image.path))
        path = out / "photographs" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(poison(rgb, hidden_pixels(number), number)).save(path)
        images.append(replace(image, path=path))  # the same id: what depends on it stays the same
    store = ImageStore.open(replace(scene, images=tuple(images)), 2, out / "store", progress=False)
    folder = out / "blocks" / "000"
    BlockNeRFTrainer(BlockInputs(settings, plan.blocks[0], store, plan.scene_hash), BlockFolders(folder)).train()
    return read_block(folder, "latest").tensors


def as_it_is(rgb: np.ndarray, hidden: np.ndarray, number: int) -> np.ndarray:
    return rgb


def poison_hidden(rgb: np.ndarray, hidden: np.ndarray, number: int) -> np.ndarray:
    noise = np.random.default_rng(number).integers(0, 256, rgb.shape, np.uint8)
    return np.where(hidden[..., None], noise, rgb)


def poison_one_kept_pixel(rgb: np.ndarray, hidden: np.ndarray, number: int) -> np.ndarray:
    if number != 3:
        return rgb
    kept = ~hidden.reshape(12, 2, 16, 2).any((1, 3))
    row, column = np.argwhere(kept)[0]
    rgb[2 * row : 2 * row + 2, 2 * column : 2 * column + 2] = 255 - rgb[2 * row, 2 * column]
    return rgb


@pytest.mark.parametrize("terms", [(), EVERY_TERM], ids=["default", "every"])
def test_a_hidden_pixel_reaches_no_loss_term(room, tmp_path, terms):
    clean = trained(room, tmp_path / "clean", as_it_is, *terms)
    poisoned = trained(room, tmp_path / "poisoned", poison_hidden, *terms)
    touched = trained(room, tmp_path / "touched", poison_one_kept_pixel, *terms)
    assert {name.split(".")[0] for name in clean} >= {"appearance", "poses"}
    assert clean.keys() == poisoned.keys()
    assert [name for name in clean if not torch.equal(clean[name], poisoned[name])] == []
    assert any(not torch.equal(clean[name], touched[name]) for name in clean), "one pixel that is seen must show"


def every_pixel(picture: torch.Tensor) -> torch.Tensor:
    """Features that change with any pixel of a picture, as many as ResNet-18 has."""
    flat = picture.flatten()
    return torch.stack([(flat * torch.cos(torch.arange(len(flat)) * 0.1 * row)).mean() for row in range(512)])


def test_a_hidden_pixel_moves_no_pose_by_what_an_image_shows(room, tmp_path, monkeypatch):
    monkeypatch.setitem(pose_setup.EXTRACTORS, "resnet18", lambda weights, rng: every_pixel)
    runs = {"clean": as_it_is, "poisoned": poison_hidden}
    clean, poisoned = (trained(room, tmp_path / name, runs[name], "pose_refinement.mode=features") for name in runs)
    assert any("features" in name for name in clean)
    assert [name for name in clean if not torch.equal(clean[name], poisoned[name])] == []


def test_no_batch_holds_a_hidden_pixel_and_patches_mark_them(room, tmp_path):
    scene = read_scene(room, DatasetConfig())
    hidden = np.stack([hidden_pixels(number) for number in range(len(scene.images))])
    store = ImageStore.open(scene, 1, tmp_path, progress=False)
    sampler = PixelSampler(store, store.image_ids, 512, seed=0)
    assert sampler.num_pixels == (~hidden).sum()
    for _ in range(2 * sampler.num_pixels // 512):
        batch = sampler.next()
        x, y = (batch.pixels_xy - 0.5).long().unbind(1)
        assert not hidden[batch.rays.image_slots, y, x].any()
    patches = sampler.next_patches(40, 8)
    x, y = (patches.pixels_xy - 0.5).long().unbind(1)
    marked = hidden[patches.rays.image_slots, y, x]
    assert marked.any()
    assert np.array_equal(patches.valid.numpy(), ~marked)
