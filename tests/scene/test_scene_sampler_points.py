"""Pixels that show sparse points: a share of every batch, known as such, exact in position and repetition."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from blocknerf.core.config.dataset import DatasetConfig
from blocknerf.scene import resident
from blocknerf.scene.observed_points import ObservedPoints
from blocknerf.scene.readers.read import read_scene
from blocknerf.scene.sampler import PixelBatch, PixelSampler
from blocknerf.scene.stage_levels import stage_level
from blocknerf.scene.store import ImageStore
from tests.support.scene_builders import transforms_capture, write_transforms
from tests.support.small_store import assert_true_to_store, drawn, make_store

SHARE = 0.2


@pytest.fixture(autouse=True)
def few_shares(monkeypatch):
    """Of pixels in memory: windows of so small images change seldom then."""
    monkeypatch.setattr(resident, "PASSES_PER_EPOCH", 4)
    monkeypatch.setattr(resident, "_FEWEST_PIECES", 16)


def random_points(store: ImageStore, image_ids: tuple[str, ...], per_image: int = 12) -> ObservedPoints:
    """Places anywhere in the images; each has a distance of its own."""
    rng = np.random.default_rng(7)
    slots = np.repeat(np.arange(len(image_ids)), per_image)
    sizes = np.array([store.size(name)[::-1] if name in store.records else (5, 5) for name in image_ids])
    numbers = np.arange(len(slots), dtype=np.float32)
    return ObservedPoints(slots, rng.random((len(slots), 2)) * sizes[slots], 1 + numbers, 0.1 + numbers)


def sampler_of(store: ImageStore, points: ObservedPoints, batch_size: int = 50, **settings) -> PixelSampler:
    settings = {"seed": 1, "points": points, "point_share": SHARE} | settings
    return PixelSampler(store, store.image_ids, batch_size, **settings)


def sights_in(batch: PixelBatch) -> dict[tuple[int, int, int], tuple[float, float]]:
    """(distance, deviation) by pixel."""
    assert batch.sights is not None
    known = batch.sights.known.tolist()
    values = zip(batch.sights.distance_m.tolist(), batch.sights.deviation_m.tolist(), strict=True)
    return {pixel: value for pixel, value, is_known in zip(drawn(batch), values, known, strict=True) if is_known}


def expected(points: ObservedPoints) -> set[tuple[tuple[int, int, int], tuple[float, float]]]:
    """Every sight at level 0 as `sights_in` has it."""
    return {
        ((int(slot), int(x), int(y)), (float(distance), float(deviation)))
        for slot, (x, y), distance, deviation in zip(
            points.slots, points.xy_px, points.distance_m, points.deviation_m, strict=True
        )
    }


BUDGETS = pytest.mark.parametrize("budget_bytes", [None, 2400])


@BUDGETS
@pytest.mark.parametrize("patch_size", [0, 3])
def test_a_share_of_every_batch_are_sights_and_all_of_them_come(tmp_path: Path, budget_bytes, patch_size):
    store = make_store(tmp_path)
    points = random_points(store, store.image_ids)
    sampler, seen = sampler_of(store, points, budget_bytes=budget_bytes, patch_size=patch_size), set()
    assert (sampler.resident_share < 1) == (budget_bytes is not None)
    for _ in range(60):
        batch = sampler.next()
        assert batch.sights is not None
        assert len(batch.rays) == 50
        assert int(batch.sights.known.sum()) == int((batch.sights.deviation_m > 0).sum()) == round(SHARE * 50)
        assert_true_to_store(batch, store, store.image_ids)
        seen |= set(sights_in(batch).items())
        if patch_size:
            assert batch.num_patches == 1
            corner = np.array(drawn(batch)[-9:]).reshape(3, 3, 3)
            assert np.array_equal(corner[1:, 1:, 1:] - corner[:-1, :-1, 1:], np.ones((2, 2, 2)))
            assert not bool(batch.sights.known[-9:].any())
    assert seen == expected(points)


def test_hidden_sights_are_never_drawn(tmp_path: Path):
    store = make_store(tmp_path, masked=True)
    points = random_points(store, store.image_ids)
    sampler, seen = sampler_of(store, points), set()
    for _ in range(60):
        batch = sampler.next()
        assert bool(batch.valid.all())
        seen |= set(sights_in(batch).items())
    valid = [store.valid(image_id) for image_id in store.image_ids]
    visible = {sight for sight in expected(points) if valid[sight[0][0]][sight[0][2], sight[0][1]]}
    assert seen == visible != expected(points)


def test_where_masks_hide_all_of_them_there_are_none(tmp_path: Path):
    store = make_store(tmp_path, masked=True)
    points = random_points(store, store.image_ids, per_image=200)
    columns, rows = points.xy_px.astype(int).T
    hidden = np.array(
        [not store.valid(store.image_ids[slot])[y, x] for slot, x, y in zip(points.slots, columns, rows, strict=True)]
    )
    assert hidden.any()
    fields = (points.slots, points.xy_px, points.distance_m, points.deviation_m)
    assert sampler_of(store, ObservedPoints(*(values[hidden] for values in fields))).next().sights is None


def test_images_that_the_store_lacks_have_no_sights(tmp_path: Path):
    store = make_store(tmp_path)
    names = ("gone", store.image_ids[2], "gone too", store.image_ids[0], "last")
    points = random_points(store, names)
    sampler = PixelSampler(store, names, 200, seed=0, points=points, point_share=0.5)
    batch = sampler.next()
    assert {slot for slot, _, _ in sights_in(batch)} == {1, 3}
    assert set(sights_in(batch).items()) <= expected(points)


@BUDGETS
def test_seeds_and_state(tmp_path: Path, budget_bytes):
    store = make_store(tmp_path)
    points = random_points(store, store.image_ids)

    def sampler(seed: int = 1) -> PixelSampler:
        return sampler_of(store, points, seed=seed, budget_bytes=budget_bytes, patch_size=3)

    one, same, other = sampler(), sampler(), sampler(2)
    first = one.next()
    assert_same(first, same.next())
    assert sights_in(first) != sights_in(other.next())
    for _ in range(9):
        one.next()
    state = one.state()
    follow = [one.next() for _ in range(5)]
    assert len({tuple(sorted(sights_in(batch))) for batch in follow}) == 5
    again = sampler()
    again.restore(state)
    for batch in follow:
        assert_same(batch, again.next())


def assert_same(one: PixelBatch, other: PixelBatch) -> None:
    assert drawn(one) == drawn(other)
    assert torch.equal(one.rgb, other.rgb)
    assert one.sights is not None
    assert other.sights is not None
    assert torch.equal(one.sights.distance_m, other.sights.distance_m)
    assert torch.equal(one.sights.deviation_m, other.sights.deviation_m)


def test_a_state_from_before_there_were_sights_is_restored(tmp_path: Path):
    store = make_store(tmp_path)
    points = random_points(store, store.image_ids)
    sampler = sampler_of(store, points)
    state = sampler.state()
    sampler.next()
    del state["sights"]
    again = sampler_of(store, points)
    again.next()
    again.restore(state)
    assert again.state() == state | {"sights": 0}
    assert_same(again.next(), sampler_of(store, points).next())


def test_without_a_share_or_points_batches_are_as_ever(tmp_path: Path):
    store = make_store(tmp_path)
    for other in (
        PixelSampler(store, store.image_ids, 50, seed=1, point_share=0.5),
        sampler_of(store, random_points(store, store.image_ids), point_share=0.0),
    ):
        batch = other.next()
        assert batch.sights is None
        assert drawn(batch) == drawn(PixelSampler(store, store.image_ids, 50, seed=1).next())


def test_beside_sights_pixels_go_through_the_pass(tmp_path: Path):
    store = make_store(tmp_path)
    mixed = sampler_of(store, random_points(store, store.image_ids))
    plain = PixelSampler(store, store.image_ids, 50, seed=1)
    for _ in range(5):
        assert drawn(mixed.next())[:40] == drawn(plain.next_pixels(40))


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_parts_hold_the_sights_of_the_whole_and_their_means_add_up(tmp_path: Path, count: int):
    store = make_store(tmp_path)
    whole = sampler_of(store, random_points(store, store.image_ids), patch_size=3).next()
    parts = [whole.part(index, count) for index in range(count)]
    assert sum(len(part.rays) for part in parts) == len(whole.rays)
    together = [sight for part in parts for sight in sights_in(part).items()]
    assert sorted(together) == sorted(sights_in(whole).items())
    total = sum(part.share * part.sight_weight * _mean_distance(part) for part in parts)
    assert total == pytest.approx(_mean_distance(whole), rel=1e-6)
    nested = [half for part in parts for half in part.parts(4)]
    total = sum(part.share * part.sight_weight * _mean_distance(part) for part in nested)
    assert total == pytest.approx(_mean_distance(whole), rel=1e-6)


def _mean_distance(batch: PixelBatch) -> float:
    assert batch.sights is not None
    known = batch.sights.distance_m[batch.sights.known]
    return float(known.mean()) if len(known) else 0.0


def painted_store(root: Path, downsample: int) -> ImageStore:
    """Two pictures of sides that no level divides, their colours rising with the place."""
    width, height = 101, 75
    tree = transforms_capture(root, count=2, size=(width, height))
    for frame in tree["frames"]:
        x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
        Image.fromarray(np.stack([2.4 * x, 3.2 * y, 0 * x], -1).astype(np.uint8)).save(root / frame["file_path"])
    write_transforms(root, tree)
    return ImageStore.open(read_scene(root, DatasetConfig()), downsample, root / "store", progress=False)


LEVELS: dict[str, Callable[[ImageStore], int]] = {
    "whole": lambda store: 0,
    "half": lambda store: 1,
    "quarter": lambda store: 2,
    "of a stage": lambda store: stage_level(store, 19),
}


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("downsample", [1, 3])
def test_sights_lie_in_the_pixel_of_each_level_that_covers_them(tmp_path: Path, level: str, downsample: int):
    """So colours of a ramp, and rays, are at most half a pixel of that level away from the place."""
    store = painted_store(tmp_path, downsample)
    number = LEVELS[level](store)
    rng = np.random.default_rng(0)
    places = rng.random((400, 2)) * (101, 75)
    places[:2] = (100.999, 74.999), (0.0, 0.0)
    order = np.arange(1, 401, dtype=np.float32)
    points = ObservedPoints(np.repeat([0, 1], 200), places, order, order)
    batch = sampler_of(store, points, batch_size=4000, level=number, point_share=1.0).next()
    assert batch.sights is not None
    rows = batch.sights.known.nonzero()[:, 0]
    xy_px = places[batch.sights.distance_m[rows].long().numpy() - 1]
    sides = np.array(store.size(store.image_ids[0], number)[::-1])
    whole = np.array(store.size(store.image_ids[0])[::-1])
    reduced = {"whole": 1, "half": 2, "quarter": 4}.get(level, whole / sides)  # a remainder is left out
    pixel = downsample * np.broadcast_to(reduced, 2)
    assert (np.abs(255 * batch.rgb[rows].numpy()[:, :2] / (2.4, 3.2) - xy_px) < 0.5 * pixel + 1.1).all()
    pixels = drawn(batch)
    for row, place in zip(rows.tolist()[:50], xy_px, strict=False):
        slot, x, y = pixels[row]
        directions = store.directions_cam(store.image_ids[slot], number)
        camera = store.cameras[store.records[store.image_ids[slot]].camera_key]
        seen = directions[y, x, :2] / directions[y, x, 2] * camera.params[:2] + camera.params[2:4]
        assert (np.abs(seen - place) <= 0.51 * pixel).all()
    covered = (places < pixel * sides).all(1).sum()
    assert covered - 4 <= len(set(batch.sights.distance_m[rows].tolist())) <= covered
