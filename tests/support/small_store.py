"""A store of four small images, and whether batches drawn from it hold what it holds."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from blocknerf.core.config.dataset import DatasetConfig
from blocknerf.scene.readers.read import read_scene
from blocknerf.scene.sampler import PixelBatch
from blocknerf.scene.store import ImageStore
from tests.support.scene_builders import picture, transforms_capture, write_transforms


def make_store(root: Path, masked: bool = False, hide_all: bool = False) -> ImageStore:
    """Four images of three sizes."""
    tree = transforms_capture(root, size=(20, 15))
    for index, (width, height) in enumerate([(20, 15), (30, 20), (20, 15), (16, 24)]):
        picture(width, height, seed=index).save(root / tree["frames"][index]["file_path"])
        tree["frames"][index] |= {"w": width, "h": height, "cx": width / 2, "cy": height / 2}
        if masked or hide_all:
            hidden = np.random.default_rng(index).random((height, width)) < (1 if hide_all else 0.4)
            (root / "masks").mkdir(exist_ok=True)
            Image.fromarray(np.where(hidden, 0, 255).astype(np.uint8)).save(root / f"masks/{index:04d}.png")
    write_transforms(root, tree)
    return ImageStore.open(read_scene(root, DatasetConfig()), 1, root / "store", progress=False)


def drawn(batch: PixelBatch) -> list[tuple[int, int, int]]:
    xy = (batch.pixels_xy - 0.5).long()
    return list(zip(batch.rays.image_slots.tolist(), xy[:, 0].tolist(), xy[:, 1].tolist(), strict=True))


def assert_true_to_store(batch: PixelBatch, store: ImageStore, image_ids: tuple[str, ...]) -> None:
    for ray, (slot, x, y) in enumerate(drawn(batch)):
        image_id = image_ids[slot]
        width = store.size(image_id)[1]
        assert np.allclose(batch.rgb[ray].numpy(), store.rgb(image_id)[y, x] / 255, atol=1e-6)
        rays = store.rays(image_id)
        assert torch.allclose(batch.rays.directions[ray], rays.directions[y * width + x], atol=1e-6)
        assert torch.equal(batch.rays.origins[ray], rays.origins[0])
        assert bool(batch.valid[ray]) == bool(store.valid(image_id)[y, x])
