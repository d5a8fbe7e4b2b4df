"""The seams: slicing and joining lose nothing."""

import dataclasses

import pytest
import torch

from blocknerf.core.types import RayBatch, RenderOutput


def rays(count: int) -> RayBatch:
    draw = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(count, 3, generator=draw), dim=-1)
    return RayBatch(torch.randn(count, 3, generator=draw), directions, torch.arange(count) - 1, torch.rand(count))


def pixels(count: int, seed: int = 0) -> RenderOutput:
    draw = torch.Generator().manual_seed(seed)
    values = torch.rand(count, 5, generator=draw)
    return RenderOutput(values[:, :3], values[:, 3], values[:, 4])


def test_slices_of_rays_put_together_are_the_rays():
    batch = rays(7)
    parts = [batch[0:3], batch[3:7]]
    assert [len(part) for part in parts] == [3, 4]
    for name in ("origins", "directions", "image_slots", "radii"):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(batch, name))


def test_a_mask_and_its_row_numbers_pick_the_same_rays():
    batch = rays(7)
    keep = torch.tensor([True, False, True, True, False, False, True])
    by_mask, by_row = batch[keep], batch[keep.nonzero()[:, 0]]
    assert torch.equal(by_mask.image_slots, by_row.image_slots)
    assert torch.equal(by_mask.directions, by_row.directions)


def test_pixels_cut_and_joined_are_the_same_picture():
    flat = pixels(12)
    joined = RenderOutput.concatenate(
        [
            RenderOutput(flat.rgb[:5], flat.opacity[:5], flat.distance_m[:5]),
            RenderOutput(flat.rgb[5:], flat.opacity[5:], flat.distance_m[5:]),
        ]
    )
    picture = joined.reshape(3, 4)
    assert picture.rgb.shape == (3, 4, 3)
    assert picture.opacity.shape == (3, 4)
    assert torch.equal(picture.reshape(12).rgb, flat.rgb)
    assert torch.equal(picture.distance_m[2, 1], flat.distance_m[9])


def test_a_seam_cannot_be_changed_on_the_way():
    with pytest.raises(dataclasses.FrozenInstanceError):
        rays(2).origins = torch.zeros(2, 3)
