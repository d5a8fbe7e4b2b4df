"""Cone radii: the footprint of a pixel by its variance, whatever its neighbours are."""

import math

import numpy as np
import pytest
import torch

from blocknerf.core.camera import Camera
from blocknerf.core.config.dataset import DatasetConfig
from blocknerf.scene.radii_numba import picture_radii
from blocknerf.scene.rays import camera_rays
from blocknerf.scene.readers.read import read_scene
from blocknerf.scene.sampler import PixelSampler
from blocknerf.scene.store import ImageStore
from tests.support.scene_builders import poses, transforms_capture


def radii_of(camera: Camera) -> torch.Tensor:
    return camera_rays(camera, poses(1)[0], camera.width, camera.height).radii.reshape(camera.height, camera.width)


def test_square_pixels_have_the_radius_of_mip_nerf():
    camera = Camera("PINHOLE", 41, 31, (500.0, 500.0, 20.5, 15.5))
    radii = radii_of(camera)
    assert math.isclose(float(radii[15, 20]), 2 / math.sqrt(12) / 500, rel_tol=1e-3)
    assert float(radii.max()) / float(radii.min()) < 1.01, "the edges of the picture are no exception"


def test_the_disc_has_the_variance_of_the_pixel():
    """Pixels that are not square: points drawn in one pixel spread as points drawn in its disc."""
    camera = Camera("PINHOLE", 9, 9, (300.0, 100.0, 4.5, 4.5))
    draw = np.random.default_rng(0)
    pixel = (draw.random((200_000, 2)) - 0.5) / (300.0, 100.0)
    angle, radius = 2 * np.pi * draw.random(200_000), np.sqrt(draw.random(200_000)) * float(radii_of(camera)[4, 4])
    disc = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
    assert math.isclose(pixel.var(0).sum(), disc.var(0).sum(), rel_tol=0.02)


def test_half_the_picture_size_is_twice_the_radius():
    camera = Camera("OPENCV", 60, 44, (55.0, 55.0, 30.0, 22.0, 0.05, 0.0, 0.0, 0.0))
    whole = radii_of(camera)
    half = camera_rays(camera, poses(1)[0], 30, 22).radii.reshape(22, 30)
    assert torch.allclose(half[2:-2, 2:-2], 2 * whole[4:-4:2, 4:-4:2], rtol=0.05)


def test_a_neighbour_that_the_lens_never_saw_does_no_harm():
    directions = np.stack([np.linspace(-0.1, 0.1, 21), np.zeros(21), np.ones(21)], 1).astype(np.float32)
    spoiled = directions.copy()
    spoiled[20] = [1, 0, 0]
    assert np.allclose(picture_radii(spoiled, 21, 1)[:20], picture_radii(directions, 21, 1)[:20], rtol=1e-4)


@pytest.mark.parametrize(("width", "height"), [(1, 5), (5, 1)])
def test_a_line_of_pixels_takes_its_one_width(width, height):
    line = np.stack([np.arange(5) * 0.01, np.zeros(5), np.ones(5)], 1).astype(np.float32)
    assert np.allclose(picture_radii(line, width, height), 0.01 / math.sqrt(3), rtol=1e-4)


def test_a_single_pixel_has_no_width():
    assert picture_radii(np.array([[0, 0, 1]], np.float32), 1, 1) == 0


def test_drawn_pixels_have_the_radii_of_their_pictures(tmp_path):
    transforms_capture(tmp_path, size=(20, 15))
    store = ImageStore.open(read_scene(tmp_path, DatasetConfig()), 1, tmp_path / "store", progress=False)
    batch = PixelSampler(store, store.image_ids, 256, seed=0).next()
    for ray in range(256):
        x, y = (batch.pixels_xy[ray] - 0.5).int().tolist()
        expected = store.rays(store.image_ids[int(batch.rays.image_slots[ray])]).radii[20 * y + x]
        assert torch.equal(batch.rays.radii[ray], expected)
