"""Depth maps: two kinds of files, reduction that mixes no surfaces, along the axis in files, along rays in batches."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from blocknerf.core.config.dataset import DatasetConfig
from blocknerf.core.errors import UserError
from blocknerf.scene.depth import read_depth_z_m, reduced_depth
from blocknerf.scene.readers.read import read_scene
from blocknerf.scene.sampler import PixelSampler
from blocknerf.scene.store import ImageStore
from tests.support.scene_builders import transforms_capture, write_transforms

WITH_DEPTH = DatasetConfig(use_depth=True)


def random_depth(height: int = 30, width: int = 40, seed: int = 0) -> np.ndarray:
    depth = np.random.default_rng(seed).uniform(1, 20, (height, width)).astype(np.float32)
    depth[3, 5] = 0
    return depth


def capture_with_depth(root: Path, kept: int = 3) -> dict[str, np.ndarray]:
    """Four images, of which the first `kept` have depth maps; those by image name."""
    tree = transforms_capture(root)
    maps = {f"{index:04d}.png": random_depth(seed=index) for index in range(kept)}
    for index, depth in enumerate(maps.values()):
        np.save(root / f"{index}.npy", depth)
        tree["frames"][index]["depth_file_path"] = f"{index}.npy"
    write_transforms(root, tree)
    return maps


def opened(root: Path, downsample: int = 1, config: DatasetConfig = WITH_DEPTH) -> ImageStore:
    return ImageStore.open(read_scene(root, config), downsample, root / "store", progress=False)


def test_metres_and_millimetres_say_the_same(tmp_path: Path):
    depth = np.round(random_depth(), 3)
    np.save(tmp_path / "m.npy", depth)
    Image.fromarray(np.round(1000 * depth).astype(np.uint16)).save(tmp_path / "mm.png")
    one, other = (read_depth_z_m(tmp_path / name, (40, 30)) for name in ("m.npy", "mm.png"))
    assert np.allclose(one, other, atol=1e-5)
    assert np.array_equal(one, depth)


@pytest.mark.parametrize("kind", [np.uint16, np.int32, np.int64, np.uint32])
def test_whole_numbers_are_millimetres_in_arrays_as_in_pictures(tmp_path: Path, kind: type):
    millimetres = np.round(1000 * random_depth())
    np.save(tmp_path / "mm.npy", millimetres.astype(kind))
    np.save(tmp_path / "m.npy", (millimetres / 1000).astype(np.float32))
    one, other = (read_depth_z_m(tmp_path / name, (40, 30)) for name in ("mm.npy", "m.npy"))
    assert np.allclose(one, other, atol=1e-6)


@pytest.mark.parametrize(("kind", "is_said"), [(np.float32, False), (np.uint16, True)])
def test_that_whole_numbers_are_taken_as_millimetres_is_said(tmp_path: Path, caplog, kind: type, is_said: bool):
    """Where nobody tells the unit."""
    np.save(tmp_path / "d.npy", np.full((30, 40), 1500, kind))
    tree = transforms_capture(tmp_path)
    frames = [{**frame, "depth_file_path": "d.npy"} for frame in tree["frames"]]
    for keys, expected in (({}, is_said), ({"depth_unit_scale_factor": 0.001}, False)):
        caplog.clear()
        write_transforms(tmp_path, {**tree, **keys, "frames": frames})
        read_scene(tmp_path, WITH_DEPTH)
        assert ("hold whole numbers, as d.npy: they are taken as millimetres" in caplog.text) == expected


@pytest.mark.parametrize("kind", [np.float32, np.uint16])
def test_a_unit_that_the_capture_tells_holds_for_any_number(tmp_path: Path, kind: type):
    """nerfstudio's `depth_unit_scale_factor`, instant-ngp's `integer_depth_scale` with its `depth_path`."""
    depth = np.arange(1, 1201).reshape(30, 40).astype(kind)
    np.save(tmp_path / "d.npy", depth)
    for keys, name in (
        ({"depth_unit_scale_factor": 0.25}, "depth_file_path"),
        ({"integer_depth_scale": "0.25"}, "depth_path"),
    ):
        tree = transforms_capture(tmp_path, **keys)
        tree["frames"][0][name] = "d.npy"
        write_transforms(tmp_path, tree)
        store = opened(tmp_path)
        assert np.array_equal(store.depth_z_m(store.image_ids[0]), depth * np.float32(0.25))
    store = opened(tmp_path)
    write_transforms(tmp_path, {**tree, "integer_depth_scale": 0.5})
    assert np.array_equal(opened(tmp_path).depth_z_m(store.image_ids[0]), depth * np.float32(0.5))


def test_what_is_no_length_is_unknown(tmp_path: Path):
    np.save(tmp_path / "d.npy", np.array([[np.nan, np.inf], [-1, 2]]))
    assert read_depth_z_m(tmp_path / "d.npy", (2, 2)).tolist() == [[0, 0], [0, 2]]


def test_another_size_of_the_same_proportions_repeats_pixels(tmp_path: Path):
    np.save(tmp_path / "d.npy", np.array([[1.0, 2.0], [3.0, 4.0]]))
    expected = np.repeat(np.repeat([[1, 2], [3, 4]], 3, axis=0), 3, axis=1)
    assert np.array_equal(read_depth_z_m(tmp_path / "d.npy", (6, 6)), expected)
    with pytest.raises(ValueError, match="2 x 2 pixels large, but the image 6 x 2"):
        read_depth_z_m(tmp_path / "d.npy", (6, 2))


def test_a_reduced_pixel_is_one_of_its_pixels_and_unknown_where_one_is():
    depth = random_depth()
    depth[10:, 20:] = np.where(np.arange(20) % 2, 5, 500)  # a fence before the far
    small = reduced_depth(depth, 3)
    assert small.shape == (10, 13)
    assert small[1, 1] == 0
    for row in range(10):
        for column in range(13):
            pixels = depth[3 * row : 3 * row + 3, 3 * column : 3 * column + 3]
            assert small[row, column] == (np.median(pixels) if (pixels > 0).all() else 0)
    even = reduced_depth(depth, 2)
    assert np.isin(even, depth).all()
    assert np.array_equal(reduced_depth(depth, 1), depth)


@pytest.mark.parametrize("downsample", [1, 2])
def test_the_store_holds_depth_at_every_level(tmp_path: Path, downsample: int):
    maps = capture_with_depth(tmp_path)
    store = opened(tmp_path, downsample)
    for image_id in store.image_ids:
        name = store.records[image_id].name
        for level in range(store.num_levels):
            depth = store.depth_z_m(image_id, level)
            assert depth is not None
            if name in maps:
                assert np.array_equal(depth, reduced_depth(maps[name], downsample * 2**level))
            else:
                assert not depth.any()


def test_a_batch_has_distances_along_its_rays(tmp_path: Path):
    capture_with_depth(tmp_path)
    store = opened(tmp_path)
    batch = PixelSampler(store, store.image_ids, 512, seed=0, patch_size=11).next()
    assert batch.distance_m is not None
    unknown = 0
    for ray, slot in enumerate(batch.rays.image_slots.tolist()):
        image_id = store.image_ids[slot]
        x, y = (batch.pixels_xy[ray] - 0.5).long().tolist()
        depth = store.depth_z_m(image_id)
        assert depth is not None
        unknown += depth[y, x] == 0
        axis = torch.from_numpy(store.records[image_id].world_from_cam[:, 2]).float()
        along_axis = batch.distance_m[ray] * (batch.rays.directions[ray] @ axis)
        assert float(along_axis) == pytest.approx(float(depth[y, x]), rel=1e-5)
    assert 0 < unknown < 512


def test_other_depth_makes_the_store_again_and_none_leaves_it_as_it_was(tmp_path: Path):
    capture_with_depth(tmp_path)
    plain = opened(tmp_path, config=DatasetConfig())
    assert plain.depth_z_m(plain.image_ids[0]) is None
    assert PixelSampler(plain, plain.image_ids, 8, seed=0).next().distance_m is None
    opened(tmp_path)
    changed = random_depth(seed=9)
    np.save(tmp_path / "0.npy", changed)
    store = opened(tmp_path)
    again = store.depth_z_m(store.image_ids[0])
    assert again is not None
    assert np.array_equal(again, changed)


def test_one_map_that_cannot_be_read_is_named_and_all_are_an_error(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    capture_with_depth(tmp_path, kept=2)
    (tmp_path / "0.npy").write_bytes(b"")
    store = opened(tmp_path)
    assert f"learned without its depth: {tmp_path / '0.npy'} cannot be read as depth" in caplog.text
    assert [bool(store.depth_z_m(image_id).any()) for image_id in store.image_ids] == [False, True, False, False]  # pyright: ignore[reportOptionalMemberAccess]
    Image.new("L", (40, 30), 7).save(tmp_path / "bytes.png")
    tree = json.loads((tmp_path / "transforms.json").read_text())
    tree["frames"][1]["depth_file_path"] = "bytes.png"
    write_transforms(tmp_path, tree)
    with pytest.raises(UserError, match=r"no depth map of .* can be used: .*0\.npy"):
        opened(tmp_path)
