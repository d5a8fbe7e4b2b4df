"""What nerfbaselines hands over is the capture that our own reader reads."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from blocknerf.core.config.dataset import DatasetConfig
from blocknerf.core.errors import UserError
from blocknerf.integrations.nerfbaselines_scene import camera_of, image_of, mask_of, names_of, scene_of
from blocknerf.scene.rays import camera_directions
from blocknerf.scene.readers.read import read_scene
from blocknerf.scene.store import ImageStore
from tests.support.nerfbaselines_data import MadeCameras, dataset_of
from tests.support.room import write_room

DISTORTION = np.array([0.05, -0.02, 0.003, -0.002, 0.01, -0.005, 0.004, 0.002])


@pytest.fixture(scope="module")
def room(tmp_path_factory) -> Path:
    return write_room(tmp_path_factory.mktemp("room"), images=6, width=16, height=12)


def distorted(model: int, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points of the plane at depth 1 as the lens shows them, by the formulas of OpenCV."""
    k1, k2, p1, p2, k3, k4, k5, k6 = DISTORTION
    r2 = u * u + v * v
    if model == 0:
        return u, v
    if model == 2:
        angle = np.arctan(np.sqrt(r2))
        grown = angle * (1 + k1 * angle**2 + k2 * angle**4 + k3 * angle**6 + k4 * angle**8)
        return u * grown / np.sqrt(r2), v * grown / np.sqrt(r2)
    radial = 1 + k1 * r2 + k2 * r2**2
    if model == 3:
        radial = (radial + k3 * r2**3) / (1 + k4 * r2 + k5 * r2**2 + k6 * r2**3)
    across_u = 2 * p1 * u * v + p2 * (r2 + 2 * u * u)
    across_v = 2 * p2 * u * v + p1 * (r2 + 2 * v * v)
    return u * radial + across_u, v * radial + across_v


@pytest.mark.parametrize("model", [0, 1, 2, 3])
def test_every_lens_shows_its_rays_at_their_pixels(model: int):
    size, (fx, fy, cx, cy) = (20, 14), (15.0, 16.0, 9.0, 7.5)
    cameras = MadeCameras(
        np.eye(4)[None, :3], np.array([[fx, fy, cx, cy]]), np.array([model]), DISTORTION[None], np.array([size])
    )
    camera, pose = camera_of(cameras[0])
    x, y, z = np.moveaxis(camera_directions(camera, *size).astype(np.float64), -1, 0)
    u, v = distorted(model, x / z, y / z)
    columns, rows = np.meshgrid(np.arange(size[0]) + 0.5, np.arange(size[1]) + 0.5)
    np.testing.assert_allclose(fx * u + cx, columns, atol=1e-3)
    np.testing.assert_allclose(fy * v + cy, rows, atol=1e-3)
    np.testing.assert_array_equal(pose, np.eye(4)[:3])


def test_a_short_list_of_distortions_ends_in_zeros():
    cameras = MadeCameras(np.eye(4), np.full(4, 9.0), np.array(1), np.zeros(0), np.array([4, 3]))
    assert camera_of(cameras)[0].params == (9.0, 9.0, 9.0, 9.0, 0.0, 0.0, 0.0, 0.0)


def test_the_scene_is_the_one_that_our_reader_reads(room, tmp_path):
    dataset = dataset_of(room)
    (tmp_path / "photographs").mkdir()
    handed, read = scene_of(dataset, tmp_path / "photographs"), read_scene(room, DatasetConfig())
    stores = [ImageStore.open(scene, 1, tmp_path / scene.root.name, False) for scene in (handed, read)]
    assert [image.name for image in handed.images] == [image.name for image in read.images]
    assert handed.test_names == frozenset()
    assert len(handed.cameras) == 1
    for known, converted in zip(read.images, handed.images, strict=True):
        assert converted.drive == known.name.split("/")[0]
        for name in ("rgb", "directions_cam"):
            np.testing.assert_array_equal(
                *(getattr(s, name)(i.id) for s, i in zip(stores, (converted, known), strict=True))
            )
        np.testing.assert_allclose(converted.world_from_cam, known.world_from_cam, atol=1e-12)


def test_points_and_who_sees_them(room, tmp_path):
    points = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32)
    dataset = dataset_of(room)
    seen = [np.array([index, 8], np.int32) for index in range(len(dataset["images"]))]
    dataset |= {"points3D_xyz": points, "points3D_rgb": None, "images_points3D_indices": seen}
    scene = scene_of(dataset, tmp_path)
    rows = {image.name: image.point_rows.tolist() for image in scene.images}
    assert [rows[name] for name in names_of(dataset)] == [one.tolist() for one in seen]
    np.testing.assert_array_equal(scene.points_world, points)
    assert scene.points_rgb.shape == (9, 3)


def test_masks_hide_and_padding_is_cut_off(room, tmp_path):
    dataset = dataset_of(room)
    masks = np.ones((len(dataset["images"]), 14, 20), bool)
    masks[0, :3] = False
    padded = np.zeros((len(masks), 14, 20, 3), np.uint8)
    for index, image in enumerate(dataset["images"]):
        padded[index, :12, :16] = image
    whole = dataset | {"images": padded, "masks": masks}
    np.testing.assert_array_equal(image_of(whole, 2), dataset["images"][2])
    assert mask_of(whole, 1) is None
    (tmp_path / "photographs").mkdir()
    scene = scene_of(whole, tmp_path / "photographs")
    store = ImageStore.open(scene, 1, tmp_path / "store", False)
    hidden = {image.name: int((~store.valid(image.id)).sum()) for image in scene.images}
    assert [hidden[name] for name in names_of(dataset)] == [3 * 16, 0, 0, 0, 0, 0]
    (tmp_path / "all").mkdir()
    assert all(not image.mask_paths for image in scene_of(whole, tmp_path / "all", use_masks=False).images)


@pytest.mark.parametrize(("behind", "grey_level"), [(None, 50), (np.array([255, 255, 255], np.uint8), 178)])
def test_what_is_transparent_stands_before_the_background(room, behind, grey_level):
    dataset = dataset_of(room)
    dataset["metadata"] = {"background_color": behind}
    grey = np.full((12, 16, 2), 100, np.uint8)
    grey[..., 1] = 127  # half opaque
    dataset["images"] = [grey]
    assert image_of(dataset, 0).shape == (12, 16, 3)
    assert np.unique(image_of(dataset, 0)).tolist() == [grey_level]
    dataset["images"] = [grey[..., 0]]
    assert np.unique(image_of(dataset, 0)).tolist() == [100]


def test_what_cannot_be_learned_is_refused(room):
    dataset = dataset_of(room)
    with pytest.raises(UserError, match="uint8 images in the colour space 'linear'; blocknerf"):
        image_of(dataset | {"metadata": {"color_space": "linear"}}, 0)
    with pytest.raises(UserError, match="has float32 images"):
        image_of(dataset | {"images": [image.astype(np.float32) for image in dataset["images"]]}, 0)
    cameras = replace(dataset["cameras"], camera_models=np.full(6, 7))
    with pytest.raises(UserError, match="a camera model 7; known are 0 to 3"):
        camera_of(cameras[0])
