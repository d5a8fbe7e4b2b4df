"""Blocks larger than memory: every pixel comes as often, batches are mixed, what is drawn follows from the place."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from blocknerf.core.config.dataset import DatasetConfig
from blocknerf.core.errors import UserError
from blocknerf.scene import resident
from blocknerf.scene.readers.read import read_scene
from blocknerf.scene.resident import ResidentPixels, Spans
from blocknerf.scene.sampler import PixelSampler
from blocknerf.scene.store import ImageStore
from tests.support.scene_builders import picture, transforms_capture
from tests.support.small_store import assert_true_to_store, drawn, make_store

BUDGET = 2400  # bytes, of 5250 and more


@pytest.fixture(autouse=True)
def few_shares(monkeypatch):
    monkeypatch.setattr(resident, "PASSES_PER_EPOCH", 4)
    monkeypatch.setattr(resident, "_FEWEST_PIECES", 16)


def sampler_of(store: ImageStore, batch_size: int = 50, seed: int = 1, **settings) -> PixelSampler:
    return PixelSampler(store, store.image_ids, batch_size, seed, budget_bytes=BUDGET, **settings)


@pytest.mark.parametrize("masked", [False, True])
def test_every_pixel_comes_once_a_pass(tmp_path: Path, masked: bool):
    """Over whole passes, but for the first window, which leaves before it has given its share."""
    store = make_store(tmp_path, masked)
    sampler = sampler_of(store)
    assert 0.2 < sampler.resident_share < 0.5
    counts: Counter[tuple[int, int, int]] = Counter()
    while sampler.passes < 6:
        counts.update(drawn(sampler.next()))
    everything = {(slot, x, y) for slot, i in enumerate(store.image_ids) for y, x in np.argwhere(store.valid(i))}
    assert set(counts) <= everything
    assert sampler.num_pixels == len(everything)
    times = np.array([counts[pixel] for pixel in everything])
    assert times.max() <= 7
    assert times.min() >= 5
    assert abs(times.mean() - 6) < 0.1


@pytest.mark.parametrize("masked", [False, True])
def test_what_is_drawn_is_what_the_store_says(tmp_path: Path, masked: bool):
    store = make_store(tmp_path, masked)
    sampler = sampler_of(store)
    for _ in range(40):
        batch = sampler.next()
        assert bool(batch.valid.all())
        assert_true_to_store(batch, store, store.image_ids)


def test_batches_mix_images_and_windows_are_exchanged(tmp_path: Path):
    tree = transforms_capture(tmp_path, count=30, size=(20, 15))
    for index, frame in enumerate(tree["frames"]):
        picture(20, 15, seed=index).save(tmp_path / frame["file_path"])
    store = ImageStore.open(read_scene(tmp_path, DatasetConfig()), 1, tmp_path / "store", progress=False)
    sampler = PixelSampler(store, store.image_ids, 64, seed=0, budget_bytes=30 * 300)
    batches = [set(sampler.next().rays.image_slots.tolist()) for _ in range(60)]
    assert min(map(len, batches)) >= 5
    assert len(set.union(*batches)) == 30
    late, early = set.union(*batches[-3:]), set.union(*batches[:3])
    assert late - early


def test_seeds_and_state(tmp_path: Path):
    """Killed anywhere and gone on with, the same pixels follow; patches are drawn beside them."""
    store = make_store(tmp_path)
    first, other = sampler_of(store, patch_size=11, batch_size=150), sampler_of(store, batch_size=150, seed=2)
    for _ in range(7):
        first.next()
    state, follows = first.state(), [first.next() for _ in range(20)]
    again = sampler_of(store, patch_size=11, batch_size=150)
    again.next()
    again.restore(state)
    for batch in follows:
        repeated = again.next()
        assert torch.equal(batch.rgb, repeated.rgb)
        assert torch.equal(batch.rays.directions, repeated.rays.directions)
    assert drawn(sampler_of(store, batch_size=150).next()) != drawn(other.next())


def test_a_budget_that_is_large_enough_changes_nothing(tmp_path: Path):
    store = make_store(tmp_path)
    roomy = PixelSampler(store, store.image_ids, 50, seed=1, budget_bytes=10**6)
    free = PixelSampler(store, store.image_ids, 50, seed=1)
    assert roomy.resident_share == 1
    assert torch.equal(roomy.next().rgb, free.next().rgb)
    assert roomy.state() == free.state()


def test_files_are_read_in_spans_that_touch():
    spans = Spans(begin=np.array([0, 10, 30, 35]), rgb_begin=np.array([100, 110, 500]))
    assert spans.files(0, 35) == [(100, 30), (500, 5)]
    assert spans.files(5, 12) == [(105, 7)]
    assert spans.files(29, 32) == [(129, 1), (500, 2)]


def test_memory_stays_within_the_budget(tmp_path: Path):
    store = make_store(tmp_path, masked=True)
    files = store.files()
    pixels = sum(int(np.prod(store.size(image_id))) for image_id in store.image_ids)
    spans = Spans(np.array([0, pixels]), np.array([0]))
    held = ResidentPixels(files, spans, BUDGET, seed=0)
    assert files.bytes_per_pixel == 4
    assert held.held_bytes <= BUDGET
    assert held.held_bytes > BUDGET / 2


def test_a_file_that_ends_too_soon_is_named(tmp_path: Path):
    store = make_store(tmp_path)
    files = store.files()
    with files.rgb.open("r+b") as handle:
        handle.truncate(1000)
    with pytest.raises(UserError, match="level_0.rgb ends too soon"):
        sampler_of(store).next()
