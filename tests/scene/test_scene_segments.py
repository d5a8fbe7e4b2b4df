"""Segments of drives: gaps in time and place split them, and nothing else does."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from blocknerf.core.config.load import load_config
from blocknerf.scene.readers.read import read_scene
from blocknerf.scene.scene import ImageRecord
from blocknerf.scene.segments import with_segments
from tests.support.scene_builders import poses
from tests.support.writers import Capture, Shot, write_kitti, write_nuscenes, write_waymo

CAMERAS = ("front", "left", "right")


def drive(name: str = "{camera}_{frame:04d}.jpg", passes: int = 2, frames: int = 8, jump_m: float = 60.0):
    """A rig of three cameras on straight passes of a street, 2 m from frame to frame; frame numbers go on and on."""
    images = []
    for number in range(passes * frames):
        one, along = divmod(number, frames)
        for place, camera in enumerate(CAMERAS):
            center = np.array([2.0 * along, 0.3 * place + jump_m * one, 1.0])
            pose = np.concatenate([np.eye(3), center[:, None]], 1)
            called = name.format(camera=camera, number=place, frame=number)
            images.append(ImageRecord(f"{number:04d}{camera}", called, Path(called), camera, pose, "monday"))
    return images


def parts(images) -> list[set[str]]:
    """The ids of each segment."""
    found: dict[str, set[str]] = {}
    for image in images:
        found.setdefault(image.segment, set()).add(image.id)
    return sorted(found.values(), key=min)


def by_pass(images, frames: int = 8) -> list[set[str]]:
    passes = sorted({int(image.id[:4]) // frames for image in images})
    return [{image.id for image in images if int(image.id[:4]) // frames == one} for one in passes]


NAMES = (
    "{camera}_{frame:04d}.jpg",
    "cam{number}/{frame:04d}.png",
    "{frame:05d}_cam{number}.png",
    "20260301/{camera}/img{frame}.jpg",
)


@pytest.mark.parametrize("name", NAMES)
def test_a_jump_splits_the_drive_of_all_cameras_alike(name):
    images = drive(name, passes=3)
    assert parts(with_segments(images, {})) == by_pass(images)


@pytest.mark.parametrize("name", NAMES)
def test_a_drive_without_a_gap_is_one_segment_that_is_called_as_the_drive(name):
    images = drive(name, passes=1, frames=24)
    assert {image.segment for image in with_segments(images, {})} == {"monday"}


def test_segments_are_called_by_their_first_image():
    names = {image.segment for image in with_segments(drive(), {})}
    assert names == {"monday, from front_0000.jpg", "monday, from front_0008.jpg"}


def test_drives_never_share_a_segment():
    images = [replace(image, drive=image.camera_key) for image in drive(passes=1)]
    assert {image.segment for image in with_segments(images, {})} == set(CAMERAS)


@pytest.mark.parametrize("names_tell_order", [True, False])
@pytest.mark.parametrize("timed", [True, False])
def test_the_order_of_files_the_origin_and_the_units_do_not_matter(timed, names_tell_order):
    images = drive("cam{number}/{frame:04d}.png", passes=3)
    moments = {image.id: float(image.id[:4]) + 40 * (int(image.id[:4]) // 8) for image in images} if timed else {}
    expected = {image.id: image.segment for image in with_segments(images, moments, names_tell_order)}
    assert len(set(expected.values())) == 3
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    for scale, shift in ((1.0, 0.0), (1e-3, 1e4), (250.0, -77.0)):
        shuffled = [images[row] for row in rng.permutation(len(images))]
        moved = [replace(image, world_from_cam=scale * turn @ image.world_from_cam + shift) for image in shuffled]
        later = {name: scale * moment + shift for name, moment in moments.items()}
        assert {image.id: image.segment for image in with_segments(moved, later, names_tell_order)} == expected


def test_a_gap_in_time_splits_and_an_equal_pace_does_not():
    images = drive(passes=2, jump_m=0.0, frames=12)
    at_pace = {image.id: 0.1 * int(image.id[:4]) for image in images}
    with_a_stop = {name: moment + 30 * (moment > 0.55) for name, moment in at_pace.items()}
    straight = [replace(image, world_from_cam=_at(2.0 * int(image.id[:4]))) for image in images]
    assert len(parts(with_segments(straight, at_pace))) == 1
    assert parts(with_segments(straight, with_a_stop)) == by_pass(images, 6)[:1] + [
        {image.id for image in images if int(image.id[:4]) >= 6}
    ]


def test_cameras_that_fire_one_after_the_other_are_one_drive():
    """nuScenes: six cameras within a revolution of the lidar."""
    images = drive(passes=1, frames=20)
    moments = {image.id: int(image.id[:4]) / 12 + CAMERAS.index(image.camera_key) / 50 for image in images}
    assert len(parts(with_segments(images, moments))) == 1


def test_a_vehicle_that_stands_for_most_of_its_drive_is_on_one():
    along = [0.0] * 12 + [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    images = [replace(image, world_from_cam=_at(along[row])) for row, image in enumerate(drive(frames=6, passes=1))]
    assert len(parts(with_segments(images, {}))) == 1


def test_a_frame_that_is_missing_is_no_gap():
    images = [image for image in drive(passes=2) if int(image.id[:4]) not in (3, 4, 11)]
    assert len(parts(with_segments(images, {}))) == 2


def test_names_of_strangers():
    strange = ["", "9" * 400, "a/../b", "\u0663.png", "#1", "1", "2", "3"]
    images = [replace(image, name=name) for image, name in zip(drive(), strange, strict=False)]
    assert len(with_segments(images, {})) == len(strange)


def test_one_image_and_one_place():
    assert [image.segment for image in with_segments(drive()[:1], {})] == ["monday"]
    tripod = [replace(image, world_from_cam=_at(0.0)) for image in drive()]
    for names_tell_order in (True, False):
        assert len(parts(with_segments(tripod, {}, names_tell_order))) == 1


def _at(along_m: float) -> np.ndarray:
    return np.concatenate([np.eye(3), [[along_m], [0.0], [1.0]]], 1)


# --- readers --------------------------------------------------------------------------------------------------------


def _capture(jump_m: float, count: int = 12) -> Capture:
    shots = []
    for number in range(count):
        right, down, forward, _ = poses(1)[0].T
        center = np.array([1.0 * number + jump_m * (number >= count // 2), 0.0, 0.0])
        rgb = np.random.default_rng(number).integers(0, 256, (6, 8, 3), np.uint8)
        moving = np.zeros((6, 8), bool)
        shots.append(Shot(f"{number:04d}.png", rgb, right, down, forward, center, moving, is_test=number % 6 == 1))
    return Capture(8, 6, 7.0, shots)


def _segments(root: Path) -> list[int]:
    """How many images each segment has."""
    scene = read_scene(root, load_config(None).dataset)
    return [len(part) for part in parts(scene.images)]


def test_kitti_segments_are_told_by_times(tmp_path):
    write_kitti(tmp_path, _capture(0.0))
    assert _segments(tmp_path) == [12]
    seconds = [0.1 * number + 20 * (number >= 4) for number in range(12)]
    (tmp_path / "times.txt").write_text("".join(f"{one:e}\n" for one in seconds))
    assert sorted(_segments(tmp_path)) == [4, 8]


def test_kitti_segments_are_told_by_frame_numbers(tmp_path):
    write_kitti(tmp_path, _capture(0.0))
    (tmp_path / "times.txt").unlink()
    assert _segments(tmp_path) == [12]
    for number in range(8, 12):
        path = tmp_path / "image_2" / f"{number:06d}.png"
        path.rename(path.with_name(f"{number + 100:06d}.png"))
    assert sorted(_segments(tmp_path)) == [4, 8]


def test_nuscenes_segments_are_told_by_timestamps(tmp_path):
    import json

    write_nuscenes(tmp_path, _capture(0.0))
    (table,) = tmp_path.glob("v1.0-*/sample_data.json")
    rows = json.loads(table.read_text())
    for row in rows:
        number = int(Path(row["filename"]).stem) if row["filename"].endswith(".png") else 0
        row["timestamp"] = 1_532_402_927_647_951 + 83_333 * number + 5_000_000 * (number >= 6)
    table.write_text(json.dumps(rows))
    assert _segments(tmp_path) == [6, 6]


@pytest.mark.parametrize(("jump_m", "expected"), [(0.0, [12]), (40.0, [6, 6])])
def test_waymo_segments_are_told_by_place_alone(tmp_path, jump_m, expected):
    write_waymo(tmp_path, _capture(jump_m))
    assert _segments(tmp_path) == expected
