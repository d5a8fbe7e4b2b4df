"""Captures far from the origin are shifted on their way in, the same way every time, and nothing else changes."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocknerf.blocks.output import open_scene, plan_scene, update_scene
from blocknerf.blocks.plan import read_plan
from blocknerf.city.manifest import manifest_of, read_manifest, write_manifest
from blocknerf.core.config.config import Config
from blocknerf.core.config.dataset import DatasetConfig
from blocknerf.export.world_offset import write_world_offset
from blocknerf.scene.colmap_module import pycolmap
from blocknerf.scene.readers.read import read_scene
from blocknerf.scene.world_offset import is_far, offset_of
from tests.support.scene_builders import colmap_capture, transforms_capture, write_transforms

UTM = (460029.0, 5300010.0, 317.0)
ECEF = (4177000.0, 855000.0, 4728000.0)


def capture(root: Path, offset_m: tuple[float, float, float], count: int = 6) -> dict:
    tree = transforms_capture(root, count=count)
    for frame in tree["frames"]:
        for axis in range(3):
            frame["transform_matrix"][axis][3] += offset_m[axis]
    write_transforms(root, tree)
    return tree


@pytest.mark.parametrize("offset_m", [UTM, ECEF, (-5e6, 3.0, 0.0)])
def test_a_capture_far_away_is_the_same_capture_shifted(
    tmp_path: Path, offset_m: tuple[float, float, float], caplog: pytest.LogCaptureFixture
):
    capture(tmp_path / "near", (0, 0, 0))
    capture(tmp_path / "far", offset_m)
    near, far = (read_scene(tmp_path / name, DatasetConfig()) for name in ("near", "far"))
    assert near.world_offset_m == (0, 0, 0)
    assert np.allclose(far.centers_world + far.world_offset_m, near.centers_world + offset_m, atol=1e-8)
    assert np.abs(far.centers_world).max() < 50
    assert not is_far(far.centers_world)
    assert np.allclose([i.world_from_cam[:, :3] for i in far.images], [i.world_from_cam[:, :3] for i in near.images])
    assert [image.id for image in far.images] == [image.id for image in near.images]
    assert "is subtracted from all positions" in caplog.text


def test_points_are_shifted_with_the_cameras(tmp_path: Path):
    model = colmap_capture(tmp_path, kind="txt")
    near = read_scene(tmp_path, DatasetConfig())
    model.transform(pycolmap.Sim3d(1.0, pycolmap.Rotation3d(), np.array(UTM)))
    model.write_text(tmp_path / "sparse/0")
    far = read_scene(tmp_path, DatasetConfig())
    assert far.world_offset_m == (460030.0, 5300010.0, 320.0)
    assert np.allclose(far.points_world + far.world_offset_m, near.points_world + UTM, atol=1e-6)


@given(st.tuples(*[st.floats(-1e7, 1e7)] * 3), st.floats(1e-3, 1e5), st.integers(2, 300), st.integers(0, 2**32 - 1))
def test_what_is_left_over_is_near_whatever_the_scale(place, extent, count, seed):
    centers = np.random.default_rng(seed).normal(size=(count, 3)) * extent + place
    offset_m = offset_of(centers)
    left_over = centers - offset_m
    assert not is_far(left_over)
    assert np.abs(np.median(left_over, axis=0)).max() <= 6 * np.linalg.norm(np.ptp(centers, axis=0))


def test_bounds_are_in_the_captures_own_coordinates(tmp_path: Path):
    capture(tmp_path, UTM)
    x, y, z = UTM
    bounds = (x - 9, y - 9, z - 9, x + 9, y + 9, z + 0.5)
    bounded = read_scene(tmp_path, DatasetConfig(scene_bounds=bounds))
    assert 2 <= len(bounded.images) < 6
    heights = bounded.centers_world[:, 2] + bounded.world_offset_m[2]
    assert (heights <= z + 0.5).all()


def test_images_that_come_later_are_shifted_as_the_first_were(tmp_path: Path):
    """Although they would move the middle of all."""
    tree = capture(tmp_path / "scene", (460_024.9, 5_300_005.1, 317.0), count=10)
    later = tree["frames"][6:]
    for frame in later:
        frame["transform_matrix"][0][3] += 30
        frame["transform_matrix"][1][3] += 30
    write_transforms(tmp_path / "scene", {**tree, "frames": tree["frames"][:6]})
    config = Config.model_validate({"block_manager": {"max_blocks": 1}})
    _, first, plan = plan_scene(config, tmp_path / "scene", tmp_path / "out")
    assert read_plan(tmp_path / "out/plan.json").world_offset_m == first.world_offset_m != (0, 0, 0)
    write_transforms(tmp_path / "scene", tree)
    assert read_scene(tmp_path / "scene", DatasetConfig()).world_offset_m != first.world_offset_m
    _, grown, after = update_scene(config, tmp_path / "scene", tmp_path / "out", [plan.blocks[0].id])
    assert grown.world_offset_m == after.world_offset_m == first.world_offset_m
    assert open_scene(tmp_path / "out", config.dataset).world_offset_m == first.world_offset_m
    _, again, _ = plan_scene(config, tmp_path / "scene", tmp_path / "out")
    assert again.world_offset_m == first.world_offset_m


def test_plan_and_city_carry_it_and_old_files_have_none(tmp_path: Path):
    capture(tmp_path / "scene", UTM)
    config = Config.model_validate({"block_manager": {"max_blocks": 1}})
    _, scene, plan = plan_scene(config, tmp_path / "scene", tmp_path / "out")
    write_manifest(tmp_path / "out", manifest_of(plan, config.block_manager))
    assert read_manifest(tmp_path / "out").world_offset_m == scene.world_offset_m
    for name, read in (("plan.json", lambda out: read_plan(out / "plan.json")), ("city.json", read_manifest)):
        tree = json.loads((tmp_path / "out" / name).read_text())
        del tree["world_offset_m"], tree["checksum"]
        (tmp_path / "out" / name).write_text(json.dumps(tree))
        assert read(tmp_path / "out").world_offset_m == (0, 0, 0)


def test_the_offset_lies_beside_what_is_written(tmp_path: Path):
    assert write_world_offset(tmp_path / "mesh.ply", (0.0, 0.0, 0.0)) is None
    path = write_world_offset(tmp_path / "mesh.ply", UTM)
    assert path == tmp_path / "mesh.ply.world_offset.json"
    assert json.loads(path.read_text()) == {"version": 1, "world_offset_m": list(UTM)}
    assert write_world_offset(tmp_path, UTM) == tmp_path / "world_offset.json"


def test_an_ordinary_scene_is_left_as_it_is(tmp_path: Path):
    capture(tmp_path, (1e3, 1e3, 0.0))
    scene = read_scene(tmp_path, DatasetConfig())
    assert scene.world_offset_m == (0, 0, 0)
    assert scene.centers_world[:, 0].mean() > 900
