"""The sampler: every pixel once a pass, masks honoured, the position restored exactly."""

from pathlib import Path

import numpy as np
import pytest
import torch

from blocknerf.core.errors import UserError
from blocknerf.scene.sampler import PixelSampler
from blocknerf.scene.sampler_numba import CONTEXT_EVERY, num_bits, permute
from tests.support.small_store import assert_true_to_store, drawn, make_store


@pytest.mark.parametrize("masked", [False, True])
def test_a_pass_draws_every_valid_pixel_once(tmp_path: Path, masked: bool):
    store = make_store(tmp_path, masked)
    everything = [
        (slot, int(x), int(y)) for slot, i in enumerate(store.image_ids) for y, x in np.argwhere(store.valid(i))
    ]
    sampler = PixelSampler(store, store.image_ids, 7, seed=1)
    assert sampler.num_pixels == len(everything)
    stream = [pixel for _ in range(3 * len(everything) // 7 + 1) for pixel in drawn(sampler.next())]
    passes = [stream[i * len(everything) : (i + 1) * len(everything)] for i in range(3)]
    assert all(sorted(one) == sorted(everything) for one in passes)
    assert passes[0] != passes[1] != passes[2]


@pytest.mark.parametrize("masked", [False, True])
def test_what_is_drawn_is_what_the_store_says(tmp_path: Path, masked: bool):
    store = make_store(tmp_path, masked)
    image_ids = (store.image_ids[3], store.image_ids[0], store.image_ids[1])
    sampler = PixelSampler(store, image_ids, 64, seed=2)
    batch = sampler.next()
    assert bool(batch.valid.all())
    assert_true_to_store(batch, store, image_ids)
    assert {batch.rays.directions.dtype, batch.rgb.dtype} == {torch.float32}


@pytest.mark.parametrize("size", [1, 2, 3, 17, 64, 1000, 1025])
def test_the_permutation_is_a_bijection_of_any_size(size: int):
    keys = np.array([11, 12, 13, 14, 15, 16], np.uint64)
    bits = num_bits(size)
    assert sorted(permute(i, keys, size, bits) for i in range(size)) == list(range(size))


def test_the_order_looks_random():
    """Neighbours in the order are far apart, and each tenth of it holds every tenth of the pixels alike."""
    keys = np.array([3, 1, 4, 1, 5, 9], np.uint64)
    size = 20_000
    order = np.array([permute(i, keys, size, num_bits(size)) for i in range(size)])
    assert abs(np.abs(np.diff(order)).mean() / size - 1 / 3) < 0.01
    counts = np.histogram2d(np.arange(size), order, 10)[0]
    chi_squared = ((counts - size / 100) ** 2 / (size / 100)).sum()
    assert 40 < chi_squared < 140  # 81 degrees of freedom: 81 +- 13
    assert abs(np.corrcoef(np.arange(size), order)[0, 1]) < 0.03


def test_seeds_and_state(tmp_path: Path):
    store = make_store(tmp_path, masked=True)

    def sampler(seed: int) -> PixelSampler:
        return PixelSampler(store, store.image_ids, 50, seed)

    one, same, other = sampler(1), sampler(1), sampler(2)
    assert drawn(one.next()) == drawn(same.next()) != drawn(other.next())
    for _ in range(40):  # into a later pass
        one.next()
        one.next_patches(2, 3)
    assert one.passes > 2
    state = one.state()
    expected = [drawn(one.next()), drawn(one.next_patches(3, 4)), drawn(one.next())]
    other = sampler(1)
    other.restore(state)
    assert other.state() == state
    assert [drawn(other.next()), drawn(other.next_patches(3, 4)), drawn(other.next())] == expected
    with pytest.raises(UserError, match=r"one among 3 pixels, but now there are"):
        other.restore({**state, "num_pixels": 3})


@pytest.mark.parametrize("masked", [False, True])
def test_patches_are_whole_squares_inside_one_image(tmp_path: Path, masked: bool):
    store = make_store(tmp_path, masked)
    sampler = PixelSampler(store, store.image_ids, 8, seed=3)
    corners = set()
    for _ in range(10):
        batch = sampler.next_patches(6, 5)
        assert_true_to_store(batch, store, store.image_ids)
        for patch in np.array(drawn(batch)).reshape(6, 5, 5, 3):
            slot, left, top = patch[0, 0]
            height, width = store.size(store.image_ids[slot])
            assert 0 <= left <= width - 5
            assert 0 <= top <= height - 5
            ys, xs = np.mgrid[top : top + 5, left : left + 5]
            assert np.array_equal(patch, np.stack([np.full((5, 5), slot), xs, ys], -1))
            corners.add((slot, left, top))
        assert (batch.valid.reshape(6, -1).float().mean(1) >= 0.5).all()
    assert len(corners) > 50
    assert {slot for slot, _, _ in corners} == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("batch_size", "share", "patches"), [(100, 0.25, 1), (100, 0.5, 2), (100, 1.0, 4), (20, 0.25, 1)]
)
def test_a_share_of_a_batch_is_patches_and_the_rest_goes_through_the_pass(tmp_path: Path, batch_size, share, patches):
    store = make_store(tmp_path, masked=True)
    ids = store.image_ids
    mixed = PixelSampler(store, ids, batch_size, seed=3, patch_size=5, patch_share=share)
    pixels, squares = (PixelSampler(store, ids, batch_size, seed=3) for _ in range(2))
    for _ in range(20):
        batch = mixed.next()
        single = max(0, batch_size - 25 * patches)
        assert (batch.num_patches, batch.patch_size, len(batch.rgb)) == (patches, 5, single + 25 * patches)
        assert drawn(batch) == drawn(pixels.next_pixels(single)) + drawn(squares.next_patches(patches, 5))
        assert_true_to_store(batch, store, ids)
        patched = batch.patches(batch.rgb)
        assert patched.shape == (patches, 5, 5, 3)
        assert torch.equal(patched.reshape(-1, 3), batch.rgb[single:])
        assert bool(batch.valid[:single].all())


def test_patches_larger_than_small_images_come_from_the_large_ones(tmp_path: Path):
    store = make_store(tmp_path)
    sampler = PixelSampler(store, store.image_ids, 8, seed=3)
    assert set(sampler.next_patches(20, 17).rays.image_slots.tolist()) == {1}
    with pytest.raises(UserError, match="No image has room for a patch of 25 x 25"):
        sampler.next_patches(1, 25)


def test_images_that_the_store_lacks_keep_their_slots(tmp_path: Path):
    store = make_store(tmp_path)
    sampler = PixelSampler(store, ("gone", store.image_ids[0], "gone too", store.image_ids[1]), 200, seed=0)
    assert set(sampler.next().rays.image_slots.tolist()) == {1, 3}
    with pytest.raises(UserError, match="None of the 1 images"):
        PixelSampler(store, ("gone",), 8, seed=0)


def test_nothing_to_draw(tmp_path: Path):
    store = make_store(tmp_path, hide_all=True)
    with pytest.raises(UserError, match="None of the 4 images to draw from has"):
        PixelSampler(store, store.image_ids, 8, seed=0)


def test_levels_are_drawn_from_alike(tmp_path: Path):
    store = make_store(tmp_path)
    batch = PixelSampler(store, store.image_ids, 100, seed=0, level=1).next()
    for ray, (slot, x, y) in enumerate(drawn(batch)[:20]):
        assert np.allclose(batch.rgb[ray].numpy(), store.rgb(store.image_ids[slot], 1)[y, x] / 255, atol=1e-6)


def test_unwanted_tiles_come_once_in_many_passes(tmp_path: Path):
    store = make_store(tmp_path)
    rng = np.random.default_rng(5)
    tiles = {image_id: rng.random((5, 5)) < 0.3 for image_id in store.image_ids}
    sampler = PixelSampler(store, store.image_ids, 7, seed=1, tiles=tiles)
    seen = {image_id: np.zeros(store.size(image_id), int) for image_id in store.image_ids}
    while sampler.passes < CONTEXT_EVERY:
        for slot, x, y in drawn(sampler.next()):
            seen[store.image_ids[slot]][y, x] += 1
    drawn_once = drawn_often = 0
    for image_id, times in seen.items():
        height, width = times.shape
        wanted = tiles[image_id][np.arange(height)[:, None] * 5 // height, np.arange(width) * 5 // width]
        assert np.all(np.isin(times[wanted], [CONTEXT_EVERY, CONTEXT_EVERY + 1])), "wanted pixels come in every pass"
        assert np.all(np.isin(times[~wanted], [1, 2])), "the others once in all of them"
        drawn_often, drawn_once = drawn_often + wanted.sum(), drawn_once + (~wanted).sum()
    expected = (drawn_often * CONTEXT_EVERY + drawn_once) / CONTEXT_EVERY
    assert sampler.pixels_per_pass == pytest.approx(expected, rel=1e-6)


def test_a_sampler_with_tiles_goes_on_where_it_was(tmp_path: Path):
    store = make_store(tmp_path)
    tiles = {image_id: np.random.default_rng(2).random((4, 4)) < 0.5 for image_id in store.image_ids}
    sampler = PixelSampler(store, store.image_ids, 50, 3, tiles=tiles)
    for _ in range(40):
        sampler.next()
    again = PixelSampler(store, store.image_ids, 50, 3, tiles=tiles)
    again.restore(sampler.state())
    assert all(torch.equal(sampler.next().rgb, again.next().rgb) for _ in range(40))
