"""Batches of a few images, and pixels of the middle alone: counts, passes, resume, masks."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from blocknerf.core.config.dataset import DatasetConfig
from blocknerf.core.errors import UserError
from blocknerf.scene.readers.read import read_scene
from blocknerf.scene.sampler import PixelBatch, PixelSampler
from blocknerf.scene.store import ImageStore
from tests.support.room import write_room


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> ImageStore:
    """Five images of 32 x 24 pixels."""
    root = write_room(tmp_path_factory.mktemp("room"), images=5)
    return ImageStore.open(read_scene(root, DatasetConfig()), 1, root / "store", progress=False)


def pixels(batch: PixelBatch) -> list[tuple[int, float, float]]:
    return [
        (slot, x, y) for slot, (x, y) in zip(batch.rays.image_slots.tolist(), batch.pixels_xy.tolist(), strict=True)
    ]


def test_a_batch_has_so_many_pixels_of_each_of_a_few_images(store):
    sampler = PixelSampler(store, store.image_ids, 90, seed=1, rays_per_image=30)
    seen = set()
    for _ in range(20):
        slots = sampler.next().rays.image_slots.tolist()
        assert all(len(set(slots[begin : begin + 30])) == 1 for begin in (0, 30, 60))
        seen |= set(slots)
    assert seen == set(range(5))


def test_a_pass_in_chunks_takes_no_pixel_twice_and_leaves_few_out(store):
    sampler = PixelSampler(store, store.image_ids, 30, seed=1, rays_per_image=30)
    drawn = Counter(pixel for _ in range(5 * (768 // 30)) for pixel in pixels(sampler.next()))
    assert max(drawn.values()) == 1
    assert len(drawn) == 5 * (768 // 30) * 30
    assert sampler.passes == 1


def test_what_an_images_last_chunk_is_cut_to_is_a_batchs_rest(store):
    slots = PixelSampler(store, store.image_ids, 70, seed=1, rays_per_image=30).next().rays.image_slots.tolist()
    assert len(set(slots[60:])) == 1


@pytest.mark.parametrize("rays_per_image", [None, 16])
def test_the_middle_alone_is_drawn_evenly_and_then_everything(store, rays_per_image):
    sampler = PixelSampler(store, store.image_ids, 64, seed=2, rays_per_image=rays_per_image)
    drawn = np.concatenate([sampler.next(0.5).pixels_xy.numpy() for _ in range(60)])
    assert drawn.min(0).tolist() == [8.5, 6.5]
    assert drawn.max(0).tolist() == [23.5, 17.5]
    assert len(np.unique(drawn, axis=0)) == 16 * 12
    later = np.concatenate([sampler.next().pixels_xy.numpy() for _ in range(60)])
    assert later.min() == 0.5
    assert len(np.unique(later, axis=0)) > 16 * 12


@pytest.mark.parametrize("rays_per_image", [None, 16])
@pytest.mark.parametrize("central", [0.3, 1.0])
def test_a_position_brings_back_what_follows_it(store, rays_per_image, central):
    def sampler() -> PixelSampler:
        return PixelSampler(store, store.image_ids, 50, seed=3, rays_per_image=rays_per_image)

    one, other = sampler(), sampler()
    for _ in range(9):
        one.next(central)
    other.restore(one.state())
    for _ in range(9):
        assert pixels(one.next(central)) == pixels(other.next(central))


def test_masked_pixels_are_stood_in_for_and_a_hidden_middle_is_named(tmp_path):
    from PIL import Image

    root = write_room(tmp_path, images=3)
    for image in (root / "images").rglob("*.png"):
        mask = Image.new("L", (32, 24), 255)
        mask.paste(0, (8, 6, 24, 18))
        path = root / "masks" / f"{image.relative_to(root / 'images')}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        mask.save(path)
    store = ImageStore.open(read_scene(root, DatasetConfig()), 1, root / "store", progress=False)
    for rays_per_image in (None, 100):
        sampler = PixelSampler(store, store.image_ids, 200, seed=0, rays_per_image=rays_per_image)
        for _ in range(10):
            x, y = (sampler.next().pixels_xy.numpy() - (16, 12)).T
            assert ((abs(x) > 8) | (abs(y) > 6)).all()
        with pytest.raises(UserError, match=r"Masks hide the middle 0\.4.*precrop_frac"):
            sampler.next(0.4)


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_means_of_parts_add_up_to_the_mean_of_the_batch(store, count):
    """Two patches among three parts or more, and pixels that a mask hides in one of them."""
    batch = PixelSampler(store, store.image_ids, 420, seed=3, patch_size=11, patch_share=0.6).next()
    hidden = batch.valid.clone()
    hidden[-90:] = False
    batch = replace(batch, valid=hidden)
    parts = [small for part in (batch.part(i, count) for i in range(count)) for small in part.parts(60)]
    assert batch.num_patches == 2
    assert sum(part.share for part in parts) == pytest.approx(1)
    means = [part.rgb[part.valid].mean() if part.valid.any() else 0.0 for part in parts]
    total = sum(part.share * float(mean) for part, mean in zip(parts, means, strict=True))
    assert total == pytest.approx(float(batch.rgb[batch.valid].mean()), rel=1e-5)
    patch_weights = [part.share * part.patch_weight for part in parts if part.num_patches > 0]
    assert sum(patch_weights) == pytest.approx(1)
