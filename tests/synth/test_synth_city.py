"""The written city: what is claimed to be exact is exact, and folders are never harmed."""

import errno
import hashlib
import os
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blocknerf.core import disk
from blocknerf.core.config.dataset import DatasetConfig
from blocknerf.core.errors import UserError
from blocknerf.scene.readers.read import read_scene
from blocknerf.scene.scene import ImageRecord, Scene
from blocknerf.synth import generate, write
from blocknerf.synth.drives import STATION_S, draw_traffic, rig_cameras, stations, traffic_at
from blocknerf.synth.generate import make_scene
from blocknerf.synth.geometry import Material, MeshBuilder
from blocknerf.synth.presets import PRESETS
from blocknerf.synth.town import build_town
from blocknerf.synth.tracer import Tracer, _first_hits_from, _pixel_directions

pytest.importorskip("embreex", reason="the synthetic city needs: pip install 'blocknerf[demo]'")
pytestmark = pytest.mark.demo


@pytest.fixture(scope="module")
def scene(tiny_city: Path) -> Scene:
    return read_scene(tiny_city, DatasetConfig(use_depth=True))


@pytest.fixture
def mini(monkeypatch: pytest.MonkeyPatch) -> None:
    """`tiny` with two stations and very small pictures."""
    tiny = PRESETS["tiny"]
    drive = replace(tiny.drives[0], stations=2)
    monkeypatch.setitem(PRESETS, "tiny", replace(tiny, drives=(drive,), width=24, height=18))


def lifted(scene: Scene, image: ImageRecord) -> tuple[np.ndarray, np.ndarray]:
    """World points of all pixel centres with a surface, and their depths."""
    camera = scene.cameras[image.camera_key]
    fx, fy, cx, cy = camera.params
    assert image.depth_path is not None
    z = np.load(image.depth_path).astype(np.float64)
    y, x = np.mgrid[: camera.height, : camera.width] + 0.5
    in_cam = np.stack([(x - cx) / fx * z, (y - cy) / fy * z, z], -1)[z > 0]
    return in_cam @ image.world_from_cam[:, :3].T + image.world_from_cam[:, 3], in_cam[:, 2]


def test_the_ordinary_reader_reads_every_image(scene, tiny_city):
    assert not scene.skipped
    assert len(scene.images) == 88
    assert len({image.drive for image in scene.images}) == 2
    assert len(scene.points_world) > 1500
    assert all(image.exposure is not None and image.exposure > 0 for image in scene.images)
    assert all(len(image.point_rows) > 5 for image in scene.images)
    for image in scene.images:
        pixels = np.asarray(Image.open(image.path))
        assert pixels.shape == (60, 80, 3)
        assert pixels.std() > 15


def test_poses_are_rotations_and_the_ones_that_were_driven(scene):
    by_name = {image.name: image.world_from_cam for image in scene.images}
    for drive in PRESETS["tiny"].drives:
        for frame, rig in enumerate(stations(drive, generate._rng(0, drive.name, "sway"))):
            for place, world_from_cam in rig.items():
                read = by_name[f"{drive.name}/{place}_{frame:04d}.png"]
                np.testing.assert_allclose(read, world_from_cam, atol=1e-9)
                np.testing.assert_allclose(read[:, :3].T @ read[:, :3], np.eye(3), atol=1e-12)
                assert np.linalg.det(read[:, :3]) > 0
                assert read[2, 1] < -0.9  # the camera's y points down


def test_depth_puts_road_and_pavement_where_they_are(scene):
    on_ground, everything = 0, 0
    for image in scene.images:
        points, depth = lifted(scene, image)
        points = points[depth < 60]
        assert points[:, 2].min() > -0.051
        on_ground += (np.abs(points[:, 2, None] - (0.0, 0.12)) < 5e-4).any(1).sum()
        everything += len(points)
    assert on_ground > 0.2 * everything


def test_no_surface_seen_from_one_view_floats_before_another(scene):
    """A point of view A, seen from B, lies on B's surface or behind it; and often enough on it."""
    images = {image.name: image for image in scene.images}
    free, same = [], []
    for frame in range(10):
        name = f"drive1_0830/front_left_{frame:04d}.png"
        points, depth = lifted(scene, images[name])
        other = images[f"drive1_0830/front_left_{frame + 1:04d}.png"]
        other_depth = np.load(other.depth_path)  # type: ignore[arg-type]
        in_cam = (points[depth < 40] - other.world_from_cam[:, 3]) @ other.world_from_cam[:, :3]
        fx, fy, cx, cy = scene.cameras[other.camera_key].params
        in_cam = in_cam[in_cam[:, 2] > 1.0]
        z = in_cam[:, 2]
        x, y = fx * in_cam[:, 0] / z + cx - 0.5, fy * in_cam[:, 1] / z + cy - 0.5
        inside = (x > 0) & (x < 79) & (y > 0) & (y < 59)
        x, y, z = x[inside].astype(int), y[inside].astype(int), z[inside]
        corners = np.stack([other_depth[y, x], other_depth[y, x + 1], other_depth[y + 1, x], other_depth[y + 1, x + 1]])
        corners = np.where(corners > 0, corners, np.inf)
        free.append(corners.min(0) < 1.01 * z + 0.01)
        same.append(free[-1] & (corners.max(0) > 0.99 * z - 0.01))
    assert np.concatenate(free).mean() > 0.97
    assert np.concatenate(same).mean() > 0.6


def test_masks_are_exactly_the_moving_cars(scene):
    """Against brute force: the cars alone and the town alone are traced, and the nearer one is kept."""
    preset = PRESETS["tiny"]
    town = build_town(preset.plan, generate._rng(0, "town"))
    still = Tracer(town, len(town.triangles))
    images = {image.name: image for image in scene.images}
    masked = 0
    drive = preset.drives[0]
    traffic = draw_traffic(preset.plan, preset.cars, generate._rng(0, drive.name, "traffic"))
    for frame, rig in list(enumerate(stations(drive, generate._rng(0, drive.name, "sway"))))[:4]:
        moment = traffic_at(traffic, frame * STATION_S, rig["left"][:2, 3])
        cars = None if moment is None else Tracer(moment, 0)
        for place, camera in rig_cameras(preset.width, preset.height).items():
            expected = np.zeros((camera.height, camera.width), bool)
            for number in range(9):
                offset = (np.array([number % 3, number // 3]) + 0.5) / 3
                pixels = np.arange(camera.height * camera.width)
                directions = _pixel_directions(camera, rig[place], pixels, offset)
                wall_m = _first_hits_from(still, rig[place][:, 3], directions)[1]
                if cars is not None:
                    car_m = _first_hits_from(cars, rig[place][:, 3], directions)[1]
                    expected |= (car_m < wall_m).reshape(expected.shape)
            paths = images[f"{drive.name}/{place}_{frame:04d}.png"].mask_paths
            found = np.asarray(Image.open(paths[0])) == 0 if paths else np.zeros_like(expected)
            assert len(paths) == expected.any()
            np.testing.assert_array_equal(found, expected)
            masked += int(found.sum())
    assert masked > 100


def test_points_are_on_surfaces_that_their_images_see(scene):
    for image in scene.images[::7]:
        in_cam = (scene.points_world[image.point_rows] - image.world_from_cam[:, 3]) @ image.world_from_cam[:, :3]
        fx, fy, cx, cy = scene.cameras[image.camera_key].params
        column = (fx * in_cam[:, 0] / in_cam[:, 2] + cx).astype(int)
        row = (fy * in_cam[:, 1] / in_cam[:, 2] + cy).astype(int)
        depth = np.load(image.depth_path)  # type: ignore[arg-type]
        neighbours = np.stack([depth[row + dy, column + dx] for dy in (0, -1) for dx in (0, -1)])
        assert (np.abs(neighbours / in_cam[:, 2] - 1).min(0) < 0.25).mean() > 0.98


@pytest.mark.parametrize("preset", PRESETS)
def test_every_eighth_name_spreads_over_cameras_and_stations(preset):
    suffix = PRESETS[preset].suffix
    names = sorted(
        f"{drive.name}/{place}_{frame:04d}{suffix}"
        for drive in PRESETS[preset].drives
        for place in rig_cameras(8, 6)
        for frame in range(drive.stations * drive.passes)
    )
    held_out = names[::8]
    by_camera = Counter(name.rsplit("_", 1)[0] for name in held_out)
    assert len(by_camera) == 4 * len(PRESETS[preset].drives)
    by_station = Counter((name.split("/")[0], name.rsplit("_", 1)[1]) for name in held_out)
    assert max(by_station.values()) == 1  # three cameras of every station are left to learn from


def test_passes_go_one_way_between_each_others_stations():
    (drive,) = PRESETS["passes"].drives
    along = np.array([rig["left"][0, 3] for rig in stations(drive, generate._rng(0, drive.name, "sway"))])
    passes = along.reshape(drive.passes, drive.stations)
    assert (np.diff(passes) > 0).all()
    assert len(np.unique(passes.round(3))) == passes.size
    assert np.diff(passes).max() < 0.2 * abs(passes[0, -1] - passes[1, 0])  # the way back is a gap


@pytest.mark.parametrize("preset", PRESETS)
def test_nothing_still_stands_in_the_way_of_the_rig(preset):
    town = build_town(PRESETS[preset].plan, generate._rng(0, "town"))
    assert np.isfinite(town.normals).all()
    tracer = Tracer(town, len(town.triangles))
    around = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    directions = np.stack([np.cos(around), np.sin(around), np.zeros(24)], 1).astype(np.float32)
    for drive in PRESETS[preset].drives:
        for rig in stations(drive, generate._rng(0, drive.name, "sway")):
            assert _first_hits_from(tracer, rig["left"][:, 3], directions)[1].min() > 1.0


def test_embree_agrees_with_a_plane_and_a_square_shade():
    builder = MeshBuilder()
    builder.box((-500.0, -500.0, -1.0), (500.0, 500.0, 0.0), Material.ROAD, (0.1, 0.1, 0.1))
    builder.quad([(-1, -1, 5.0), (1, -1, 5.0), (1, 1, 5.0), (-1, 1, 5.0)], 0)
    tracer = Tracer(builder.mesh(), 10**9)
    rng = np.random.default_rng(0)
    origins = np.concatenate([rng.uniform(-4, 4, (500, 2)), np.full((500, 1), 3.0)], 1).astype(np.float32)
    down = (rng.normal(size=(500, 3)) * 0.3 - (0, 0, 1)).astype(np.float32)
    down /= np.linalg.norm(down, axis=1, keepdims=True)
    np.testing.assert_allclose(tracer.first_hits(origins, down)[1], -3.0 / down[:, 2], rtol=1e-5)
    up = np.array([0.3, 0.1, 0.9])
    at_shade = origins[:, :2] + up[:2] * 2.0 / 0.9
    np.testing.assert_array_equal(tracer.reaches(origins, up / np.linalg.norm(up)), (np.abs(at_shade) > 1).any(1))


def hashes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_seed_gives_the_same_bytes_however_many_workers(mini, tmp_path):
    make_scene(tmp_path / "a", "tiny", seed=3, workers=1)
    make_scene(tmp_path / "b", "tiny", seed=3, workers=2)
    make_scene(tmp_path / "c", "tiny", seed=4, workers=2)
    first, second, other = (hashes(tmp_path / name) for name in "abc")
    assert first == second
    pictures = [name for name in first if name.startswith("images/")]
    assert len(pictures) == 8
    assert all(first[name] != other[name] for name in pictures)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c"]


def test_moving_cars_change_the_pixels_that_masks_hide_and_no_other_depth(mini, tmp_path):
    for cars in (0, 20):
        make_scene(tmp_path / str(cars), "tiny", seed=3, moving_cars=cars)
    assert not list(tmp_path.glob("0/masks/**/*.png"))
    empty, full = (read_scene(tmp_path / str(cars), DatasetConfig(use_depth=True)) for cars in (0, 20))
    hidden = []
    for before, after in zip(empty.images, full.images, strict=True):
        assert np.array_equal(before.world_from_cam, after.world_from_cam)
        for path in after.mask_paths:
            hidden.append(np.asarray(Image.open(path)) == 0)
            before_m, after_m = np.load(before.depth_path), np.load(after.depth_path)  # type: ignore[arg-type]
            assert np.array_equal(before_m[~hidden[-1]], after_m[~hidden[-1]])
    assert np.sum(hidden) > 20
    with pytest.raises(UserError, match="-1 moving cars"):
        make_scene(tmp_path / "x", "tiny", moving_cars=-1)


def test_jitter_moves_exposures_and_brightness_and_nothing_else(mini, tmp_path):
    make_scene(tmp_path / "plain", "tiny", seed=3)
    make_scene(tmp_path / "jitter", "tiny", seed=3, jitter_stops=1.0)
    plain, jittered = (read_scene(tmp_path / name, DatasetConfig(use_depth=True)) for name in ("plain", "jitter"))
    stops = []
    for before, after in zip(plain.images, jittered.images, strict=True):
        assert before.exposure is not None
        assert after.exposure is not None
        stops.append(np.log2(after.exposure / before.exposure))
        brighter = np.asarray(Image.open(after.path)).mean() - np.asarray(Image.open(before.path)).mean()
        assert np.sign(brighter) == np.sign(stops[-1])
        assert np.array_equal(before.world_from_cam, after.world_from_cam)
    assert np.abs(stops).max() <= 1
    assert np.ptp(stops) > 0.8
    for wrong in (-1.0, 9.0, float("nan")):
        with pytest.raises(UserError, match="0 to 3 are possible"):
            make_scene(tmp_path / "x", "tiny", jitter_stops=wrong)


def test_foreign_folders_are_left_alone(mini, tmp_path):
    foreign = tmp_path / "photos"
    foreign.mkdir()
    (foreign / "holiday.jpg").write_bytes(b"precious")
    with pytest.raises(UserError, match="photos is not empty. Choose another, or add"):
        make_scene(foreign, "tiny")
    with pytest.raises(UserError, match=r"photos is not a synthetic city \(it has no"):
        make_scene(foreign, "tiny", overwrite=True)
    with pytest.raises(UserError, match=r"holiday.jpg is a file"):
        make_scene(foreign / "holiday.jpg", "tiny")
    assert [path.name for path in foreign.iterdir()] == ["holiday.jpg"]
    (tmp_path / "empty").mkdir()
    make_scene(tmp_path / "empty", "tiny")
    assert (tmp_path / "empty" / "sparse" / "0" / "images.txt").is_file()


def test_a_city_that_is_there_already_is_left_as_it_is(mini, tmp_path, monkeypatch):
    city = tmp_path / "city"

    def fail_at_the_end(kind, path, do, half):
        if kind == "fsync" and path == str(tmp_path):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return do()

    with disk.faults(fail_at_the_end), pytest.raises(UserError, match="then run the same command again"):
        make_scene(city, "tiny", seed=1)
    before = hashes(city)
    with monkeypatch.context() as patch:
        patch.setattr(generate, "build_town", None)  # nothing is made again
        make_scene(city, "tiny", seed=1)
    assert hashes(city) == before
    with pytest.raises(UserError, match="is not empty"):
        make_scene(city, "tiny", seed=2)
    next((city / "images").rglob("*.png")).unlink()
    with pytest.raises(UserError, match="is not empty"):
        make_scene(city, "tiny", seed=1)


def test_overwriting_replaces_whole_or_not_at_all(mini, tmp_path, monkeypatch):
    city = tmp_path / "city"
    make_scene(city, "tiny", seed=1)
    before = hashes(city)

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(write, "write_colmap", stop)
        with pytest.raises(KeyboardInterrupt):
            make_scene(city, "tiny", seed=2, overwrite=True)
    assert hashes(city) == before
    assert [path.name for path in tmp_path.iterdir()] == ["city"]
    make_scene(city, "tiny", seed=2, overwrite=True)
    assert hashes(city) != before
    assert [path.name for path in tmp_path.iterdir()] == ["city"]


def test_overwriting_removes_no_file_but_its_own(mini, tmp_path):
    city = tmp_path / "city"
    make_scene(city, "tiny", seed=1)
    foreign = next(path for path in sorted((city / "images").iterdir()) if path.is_dir()) / "holiday.jpg"
    foreign.write_bytes(b"precious")
    before = hashes(city)
    with pytest.raises(UserError, match=r"holiday.jpg is not a file .* Move it elsewhere"):
        make_scene(city, "tiny", seed=2, overwrite=True)
    foreign.unlink()
    (city / "later").symlink_to(tmp_path)
    with pytest.raises(UserError, match="later is not a file of the synthetic city"):
        make_scene(city, "tiny", seed=2, overwrite=True)
    (city / "later").unlink()
    assert hashes(city) == {name: digest for name, digest in before.items() if "holiday" not in name}


def test_a_full_disk_and_a_missing_embree_are_said_plainly(mini, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(write, "write_shot", full)
        with pytest.raises(UserError, match="Cannot write the synthetic city to .*No space"):
            make_scene(tmp_path / "city", "tiny")
    for module in ("embreex.rtcore_scene", "embreex.mesh_construction"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=r"pip install 'blocknerf\[demo\]'"):
        make_scene(tmp_path / "city", "tiny")
    assert not any(tmp_path.iterdir())
