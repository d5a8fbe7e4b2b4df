"""Levels of any size: against brute force, against the pyramid where both have the same size, against damage."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from blocknerf.core.config.dataset import DatasetConfig
from blocknerf.core.errors import UserError
from blocknerf.scene.depth import reduced_depth
from blocknerf.scene.photographs import whole_blocks
from blocknerf.scene.ray_tables import write_ray_table
from blocknerf.scene.rays import directions_at
from blocknerf.scene.readers.read import read_scene
from blocknerf.scene.resampling import resampled_depth, resampled_rays, resampled_rgb, resampled_valid
from blocknerf.scene.sampler import PixelSampler
from blocknerf.scene.scene import Scene
from blocknerf.scene.stage_levels import stage_level
from blocknerf.scene.store import ImageStore
from tests.support.scene_builders import colmap_capture, picture, transforms_capture, write_transforms

CONFIG = DatasetConfig()
SIZES = [((7, 11), (3, 4)), ((36, 49), (8, 11)), ((5, 5), (5, 5)), ((9, 6), (1, 1)), ((12, 16), (11, 15))]
"""Before and after, (height, width)."""


def opened(scene: Scene, folder: Path, downsample: int = 1) -> ImageStore:
    return ImageStore.open(scene, downsample, folder, progress=False)


def areas(before: tuple[int, int], after: tuple[int, int], row: int, column: int) -> list[tuple[int, int, Fraction]]:
    """Old pixels that a new one covers, and by how much of one of them."""

    def shares(count: int, pieces: int, piece: int) -> list[tuple[int, Fraction]]:
        begin, end = Fraction(piece * count, pieces), Fraction((piece + 1) * count, pieces)
        overlaps = [(pixel, min(end, Fraction(pixel + 1)) - max(begin, Fraction(pixel))) for pixel in range(count)]
        return [(pixel, overlap) for pixel, overlap in overlaps if overlap > 0]

    rows, columns = shares(before[0], after[0], row), shares(before[1], after[1], column)
    return [(y, x, down * across) for y, down in rows for x, across in columns]


def brute(pixels: np.ndarray, after: tuple[int, int], one: Callable[[list], object]) -> np.ndarray:
    """`one` makes a new pixel of (old value, area) of all that it covers."""
    size = pixels.shape[:2]
    values = [
        [one([(pixels[y, x], area) for y, x, area in areas(size, after, row, column)]) for column in range(after[1])]
        for row in range(after[0])
    ]
    return np.array(values)


def mean(covered: list) -> list[int]:
    whole = sum(area for _, area in covered)
    exact = [sum(Fraction(int(value[channel])) * area for value, area in covered) / whole for channel in range(3)]
    return [int(value + Fraction(1, 2)) for value in exact]


def middle(covered: list) -> float:
    if min(value for value, _ in covered) <= 0:
        return 0.0
    whole, nearer = sum(area for _, area in covered), Fraction(0)
    for value, area in sorted(covered, key=lambda each: each[0]):
        nearer += area
        if 2 * nearer > whole:
            return value
    raise AssertionError


@pytest.mark.parametrize(("before", "after"), SIZES)
def test_colours_are_exact_means_by_area(before, after):
    rgb = np.asarray(picture(before[1], before[0]))
    assert np.array_equal(resampled_rgb(rgb, *after), brute(rgb, after, mean))


@pytest.mark.parametrize(("before", "after"), SIZES)
def test_a_pixel_is_valid_where_all_that_it_covers_is(before, after):
    valid = np.random.default_rng(0).random(before) < 0.8
    expected = brute(valid, after, lambda covered: all(value for value, _ in covered))
    assert np.array_equal(resampled_valid(valid, *after), expected)


@pytest.mark.parametrize(("before", "after"), SIZES)
def test_depth_is_the_middle_one_by_area_and_unknown_beside_the_unknown(before, after):
    rng = np.random.default_rng(1)
    depth = np.where(rng.random(before) < 0.05, 0, rng.uniform(1, 50, before)).astype(np.float32)
    assert np.array_equal(resampled_depth(depth, *after), brute(depth, after, middle).astype(np.float32))


def test_the_mean_of_a_picture_and_a_constant_one_stay():
    rgb = np.asarray(picture(97, 61))
    small = resampled_rgb(rgb, 23, 38)
    assert np.abs(small.mean((0, 1)) - rgb.mean((0, 1))).max() < 0.1  # rounding alone: 0.29 / sqrt(23 x 38)
    constant = np.full((40, 60, 3), (10, 200, 31), np.uint8)
    assert (resampled_rgb(constant, 17, 23) == [10, 200, 31]).all()
    assert np.array_equal(
        resampled_rgb(np.asarray(picture(700, 2)), 1, 350)[0, 300],
        brute(np.asarray(picture(700, 2))[:, 600:602], (1, 1), mean)[0, 0],
    )


def test_by_a_whole_factor_masks_and_depth_are_those_of_the_pyramid():
    rng = np.random.default_rng(2)
    for factor in (1, 2, 3, 4):
        depth = np.where(rng.random((24, 36)) < 0.02, 0, rng.uniform(1, 9, (24, 36))).astype(np.float32)
        size = 24 // factor, 36 // factor
        assert np.array_equal(resampled_depth(depth, *size), reduced_depth(depth, factor))
        assert np.array_equal(resampled_valid(depth > 0, *size), whole_blocks(depth > 0, factor))


def test_rays_are_linear_between_the_middles_of_pixels():
    columns, rows = np.meshgrid(np.arange(13) + 0.5, np.arange(9) + 0.5)
    plane = np.stack([columns / 13, rows / 9, 2 * columns - rows, np.ones_like(rows)], -1).astype(np.float32)
    wide, high = np.meshgrid((np.arange(5) + 0.5) / 5, (np.arange(4) + 0.5) / 4)
    expected = np.stack([wide, high, 26 * wide - 9 * high, np.ones_like(high)], -1)
    assert np.allclose(resampled_rays(plane, 4, 5), expected, atol=1e-5)
    assert np.array_equal(resampled_rays(plane, 9, 13), plane)


@pytest.mark.parametrize("downsample", [1, 2])
def test_a_level_is_made_of_the_largest_and_looks_through_the_middles_of_its_pixels(tmp_path: Path, downsample: int):
    colmap_capture(tmp_path, size=(49, 37), model="OPENCV")
    scene = read_scene(tmp_path, CONFIG)
    (camera,) = scene.cameras.values()
    store = opened(scene, tmp_path / "store", downsample)
    level = stage_level(store, 17)
    height, width = store.size(store.image_ids[0])
    small = (13, 17)
    for image_id in store.image_ids:
        assert store.size(image_id, level) == small
        assert np.array_equal(store.rgb(image_id, level), brute(store.rgb(image_id), small, mean))
        assert store.valid(image_id, level).all()
    point = np.array([[5.5 / 17 * width * downsample, 3.5 / 13 * height * downsample]])
    assert np.allclose(
        store.directions_cam(store.image_ids[1], level)[3, 5], directions_at(camera, point)[0], atol=1e-6
    )
    assert not store.files(level).rgb.samefile(store.files(0).rgb)


def test_a_resolution_bounds_each_image_by_itself(tmp_path: Path):
    store = mixed_sizes(tmp_path)
    level = stage_level(store, 18)
    sizes = {store.records[image_id].name: store.size(image_id, level) for image_id in store.image_ids}
    assert sizes == {"0000.png": (14, 18), "0001.png": (12, 18), "0002.png": (14, 18), "0003.png": (18, 12)}
    unchanged = stage_level(store, 25)
    assert [store.size(i, unchanged) == store.size(i) for i in store.image_ids] == [True, False, True, True]
    for image_id in store.image_ids[2:]:
        assert np.array_equal(store.rgb(image_id, unchanged), store.rgb(image_id))
        assert torch.allclose(store.rays(image_id, unchanged).directions, store.rays(image_id).directions, atol=1e-6)


def mixed_sizes(root: Path) -> ImageStore:
    tree = transforms_capture(root, size=(20, 15))
    for index, (width, height) in enumerate([(20, 15), (30, 20), (20, 15), (16, 24)]):
        picture(width, height, seed=index).save(root / tree["frames"][index]["file_path"])
        tree["frames"][index] |= {"w": width, "h": height, "cx": width / 2, "cy": height / 2}
        hidden = np.random.default_rng(index).random((height, width)) < 0.1
        (root / "masks").mkdir(exist_ok=True)
        Image.fromarray(np.where(hidden, 0, 255).astype(np.uint8)).save(root / f"masks/{index:04d}.png")
    write_transforms(root, tree)
    return opened(read_scene(root, CONFIG), root / "store")


@pytest.mark.parametrize("budget_bytes", [None, 2500])
def test_the_sampler_draws_every_valid_pixel_of_it_once(tmp_path: Path, budget_bytes: int | None):
    store = mixed_sizes(tmp_path)
    level = stage_level(store, 17)
    everything = {
        (slot, int(x), int(y)): tuple(rgb[y, x])
        for slot, image_id in enumerate(store.image_ids)
        for rgb in [store.rgb(image_id, level)]
        for y, x in np.argwhere(store.valid(image_id, level))
    }
    sampler = PixelSampler(store, store.image_ids, 16, seed=3, level=level, budget_bytes=budget_bytes)
    assert (sampler.resident_share < 1) == (budget_bytes is not None)
    assert sampler.num_pixels == len(everything)
    seen = set()
    for _ in range(len(everything) // 16 if budget_bytes is None else 20):
        batch = sampler.next()
        xy = (batch.pixels_xy - 0.5).long().tolist()
        for (x, y), slot, rgb in zip(xy, batch.rays.image_slots.tolist(), 255 * batch.rgb, strict=True):
            assert everything[slot, x, y] == tuple(rgb.round().to(torch.uint8).tolist())
            seen.add((slot, x, y))
    assert budget_bytes is not None or len(seen) == len(everything) // 16 * 16


def test_masks_and_what_the_lens_does_not_reach_stay_hidden(tmp_path: Path):
    store = mixed_sizes(tmp_path / "masked")
    level = stage_level(store, 17)
    for image_id in store.image_ids:
        size = store.size(image_id, level)
        assert np.array_equal(
            store.valid(image_id, level), brute(store.valid(image_id), size, lambda c: all(v for v, _ in c))
        )
    colmap_capture(tmp_path, model="SIMPLE_FISHEYE", size=(200, 40))  # focal length 50: 90 degrees at 78.5 pixels
    lens = opened(read_scene(tmp_path, CONFIG), tmp_path / "store")
    level = stage_level(lens, 70)
    for image_id in lens.image_ids:
        valid = lens.valid(image_id, level)
        assert 0 < valid.sum() < valid.size
        assert (valid <= lens.reached(image_id, level)).all()
        assert not valid[:, 0].any()
        assert np.isfinite(lens.directions_cam(image_id, level)).all()


def test_depth_and_rays_of_its_own(tmp_path: Path):
    tree = transforms_capture(tmp_path)
    for index, frame in enumerate(tree["frames"]):
        np.save(tmp_path / f"{index}.npy", np.random.default_rng(index).uniform(1, 9, (30, 40)).astype(np.float32))
        frame["depth_file_path"] = f"{index}.npy"
    write_transforms(tmp_path, tree)
    scene = read_scene(tmp_path, DatasetConfig(use_depth=True))
    columns, rows = np.meshgrid((np.arange(40) + 0.5 - 20) / 2000, (np.arange(30) + 0.5 - 15) / 2000)
    ways = np.stack([columns, rows, np.ones((30, 40))], -1)
    rays = np.concatenate([ways / np.linalg.norm(ways, axis=2, keepdims=True), 10 * ways], 2).astype(np.float32)
    write_ray_table(tmp_path / "rays.npy", rays)
    with_rays = [
        replace(image, rays_path=tmp_path / "rays.npy") if n < 2 else image for n, image in enumerate(scene.images)
    ]
    store = opened(replace(scene, images=tuple(with_rays)), tmp_path / "store")
    level = stage_level(store, 15)
    for image_id in store.image_ids:
        depth, small = store.depth_z_m(image_id), store.depth_z_m(image_id, level)
        assert depth is not None
        assert small is not None
        assert np.array_equal(small, brute(depth, (11, 15), middle).astype(np.float32))
    first, last = store.image_ids[0], store.image_ids[-1]
    x, y = (4.5 / 15 * 40 - 20) / 2000, (7.5 / 11 * 30 - 15) / 2000
    direction, offset = store.directions_cam(first, level)[7, 4], store.offsets_m(first, level)
    assert offset is not None
    assert np.allclose(direction[:2] / direction[2], [x, y], atol=1e-6)
    assert np.allclose(np.linalg.norm(store.directions_cam(first, level), axis=-1), 1, atol=1e-6)
    assert np.allclose(offset[7, 4], [10 * x, 10 * y, 10], atol=1e-5)
    assert not store.offsets_m(last, level).any()


def listed(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_it_is_made_once_beside_a_pyramid_that_stays_as_it_is(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    colmap_capture(tmp_path)  # 48 x 36
    scene, folder = read_scene(tmp_path, CONFIG), tmp_path / "store"
    store = opened(scene, folder)
    before = listed(folder)
    assert [stage_level(store, side) for side in (None, 100, 48, 24, 12)] == [0, 0, 0, 1, 2]
    assert listed(folder) == before
    caplog.set_level("INFO")
    level = stage_level(store, 20)
    assert (level, store.num_levels, stage_level(store, 20)) == (3, 3, 3)
    assert "There is no image store of 20 pixels a side yet; resampling 5 images into" in caplog.text
    after = listed(folder)
    assert {name: content for name, content in after.items() if name in before} == before
    assert sorted(after.keys() - before.keys()) == ["side_20.directions", "side_20.json", "side_20.rgb"]
    caplog.clear()
    again = opened(scene, folder)
    assert np.array_equal(again.rgb(again.image_ids[2], stage_level(again, 20)), store.rgb(store.image_ids[2], level))
    assert caplog.text == ""
    assert listed(folder) == after


@pytest.mark.parametrize("name", ["side_20.json", "side_20.rgb", "side_20.directions"])
def test_damage_is_found_and_mended(tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str):
    colmap_capture(tmp_path)
    scene, folder = read_scene(tmp_path, CONFIG), tmp_path / "store"
    stage_level(opened(scene, folder), 20)
    whole = listed(folder)
    content = bytearray(whole[name])
    content[len(content) // 2] ^= 0xFF
    (folder / name).write_bytes(content)
    caplog.set_level("INFO")
    stage_level(opened(scene, folder), 20)
    assert "damaged" in caplog.text
    assert listed(folder) == whole


def test_other_photographs_make_it_anew(tmp_path: Path):
    colmap_capture(tmp_path)
    folder = tmp_path / "store"
    stage_level(opened(read_scene(tmp_path, CONFIG), folder), 20)
    before = listed(folder)
    path = tmp_path / "images/002.png"
    path.write_bytes(path.read_bytes()[:1500])  # the header is whole
    store = opened(read_scene(tmp_path, CONFIG), folder)
    assert not list(folder.glob("side_*"))
    level = stage_level(store, 20)
    assert len(store.level(level).rgb) == 4 * 15 * 20
    assert listed(folder)["side_20.rgb"] != before["side_20.rgb"]


def test_a_full_disk_is_a_sentence_and_leaves_no_debris(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    colmap_capture(tmp_path)
    store = opened(read_scene(tmp_path, CONFIG), tmp_path / "store")
    before = listed(tmp_path / "store")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.pwrite", full)
    with pytest.raises(UserError, match="Cannot write the image store in .*: No space"):
        stage_level(store, 20)
    monkeypatch.undo()
    assert listed(tmp_path / "store") == before
    assert stage_level(store, 20) == 3
