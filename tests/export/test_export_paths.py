"""Frames of camera paths: poses, sizes, files."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from blocknerf.blocks.plan import Layout
from blocknerf.city.manifest import CityBlock, Manifest
from blocknerf.core.camera import Camera
from blocknerf.core.errors import UserError
from blocknerf.export.paths import (
    View,
    camera_path_fps,
    captured_views,
    in_city,
    interpolated_views,
    read_camera_path,
    view_rays,
)
from blocknerf.scene.orientation import Orientation
from blocknerf.scene.rays import camera_rays
from blocknerf.scene.scene import ImageRecord

WIDE = Camera("PINHOLE", 40, 20, (30.0, 30.0, 20.0, 10.0))
TALL = Camera("PINHOLE", 24, 32, (30.0, 30.0, 12.0, 16.0))
CAMERAS = {"wide": WIDE, "tall": TALL}
POSE = np.concatenate([np.eye(3), [[1.0], [2], [3]]], axis=1)


def image(name: str, x: float, drive: str = "noon", camera: str = "wide") -> ImageRecord:
    return ImageRecord(name, name, Path(name), camera, np.concatenate([np.eye(3), [[x], [0.0], [0]]], 1), drive)


def test_the_test_path_is_the_images_own_poses_at_the_size_of_training():
    images = [image("b", 1.0), image("a", 5.0, "dusk")]
    views = captured_views(images, CAMERAS, 4)
    assert [(view.width, view.height, view.drive) for view in views] == [(10, 5, "noon"), (10, 5, "dusk")]
    assert [view.world_from_cam[0, 3] for view in views] == [1.0, 5.0]
    with pytest.raises(UserError, match="no test image whose pose"):
        captured_views([], CAMERAS, 4)


def test_a_path_along_pictures_that_lie_on_their_side_is_held_upright():
    images = []
    for number in range(8):
        one = image(f"{number}", float(number))
        lying = one.world_from_cam @ np.array([[0, -1.0, 0, 0], [1.0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
        images.append(replace(one, world_from_cam=lying, orientation=Orientation(6)) if number % 2 == 0 else one)
    for chosen in (images, images[::2]):
        for view in interpolated_views(chosen, {"wide": WIDE}, 20, 1):
            assert np.allclose(view.world_from_cam[:, :3], np.eye(3), atol=1e-6)
            assert (view.width, view.height) == (20, 40)
            assert view.camera.width == 20


def test_a_frame_of_the_cameras_proportions_has_the_cameras_rays():
    rays = view_rays(View(WIDE, POSE, 20, 10))
    expected = camera_rays(WIDE, POSE, 20, 10)
    assert torch.equal(rays.directions, expected.directions)
    assert torch.equal(rays.origins, expected.origins)


@pytest.mark.parametrize(("width", "height"), [(10, 10), (20, 4), (13, 7)])
def test_other_proportions_cut_off_and_do_not_stretch(width, height):
    """In the middle of the frame, a pixel is as wide as it is high, and the frame looks where the camera looks."""
    rays = view_rays(View(WIDE, POSE, width, height))
    grid = (rays.directions / rays.directions[:, 2:]).reshape(height, width, 3)
    assert len(rays) == width * height
    step_x, step_y = grid[0, 1, 0] - grid[0, 0, 0], grid[1, 0, 1] - grid[0, 0, 1]
    assert float(step_x) == pytest.approx(float(step_y), rel=0.06)
    assert grid[..., :2].mean((0, 1)).abs().max() <= 0.51 * step_x
    full = (camera_rays(WIDE, POSE, 40, 20).directions).reshape(20, 40, 3)
    assert grid[..., 0].max() <= (full[..., 0] / full[..., 2]).max() + 1e-5
    assert grid[..., 1].max() <= (full[..., 1] / full[..., 2]).max() + 1e-5


def test_interpolation_follows_one_drive_and_one_camera_by_name():
    images = [image(f"noon/{k}", float(k)) for k in range(6)]
    images += [image(f"noon/side{k}", 100.0 + k, camera="tall") for k in range(5)]
    images += [image(f"dusk/{k}", -50.0 - k, "dusk") for k in range(5)]
    views = interpolated_views(images[::-1], CAMERAS, 30, 2)
    assert len(views) == 30
    assert {(view.drive, view.width, view.height) for view in views} == {("noon", 20, 10)}
    along = [view.world_from_cam[0, 3] for view in views]
    assert along == sorted(along)
    assert (along[0], along[-1]) == pytest.approx((0, 5))
    assert interpolated_views(images, CAMERAS, 30, 2, "dusk")[0].world_from_cam[0, 3] == pytest.approx(-50)


def test_images_that_each_have_a_camera_of_their_own_are_all_followed():
    cameras = {str(k): WIDE for k in range(8)}
    images = [image(f"{k}", float(k), camera=str(k)) for k in range(8)]
    assert interpolated_views(images, cameras, 24, 1)[-1].world_from_cam[0, 3] == pytest.approx(7)


def test_the_order_is_that_of_the_numbers_in_names():
    views = interpolated_views([image(f"frame_{k}", float(k)) for k in range(1, 13)], CAMERAS, 36, 1)
    along = [view.world_from_cam[0, 3] for view in views]
    assert along == sorted(along)
    assert (along[0], along[-1]) == pytest.approx((1, 12))


def test_more_images_than_frames_are_thinned():
    bumps = [image(f"{k:04d}", float(k)) for k in range(100)]
    for record in bumps[1::2]:
        record.world_from_cam[1, 3] = 1.0
    heights = [view.world_from_cam[1, 3] for view in interpolated_views(bumps, CAMERAS, 30, 1)]
    assert np.abs(np.diff(heights)).max() < 1e-6


@pytest.mark.parametrize(
    ("drive", "count", "message"),
    [("night", 10, "no training image .*'night'|No training image belongs .*'night'"), ("noon", 1, "--frames is 1")],
)
def test_a_path_that_cannot_be_is_said(drive, count, message):
    with pytest.raises(UserError, match=message):
        interpolated_views([image("a", 0.0), image("b", 1.0)], CAMERAS, count, 1, drive)


@pytest.mark.parametrize("images", [2, 3, 7, 40])
@pytest.mark.parametrize("count", [2, 3, 5, 11])
def test_two_images_and_two_frames_are_enough_for_a_path_from_end_to_end(images, count):
    records = [image(f"{k:04d}", float(k)) for k in range(images)]
    views = interpolated_views(records, CAMERAS, count, 1)
    assert len(views) == count
    assert views[0].world_from_cam[0, 3] == 0
    assert views[-1].world_from_cam[0, 3] > (images - 1) / 2


def test_one_image_makes_no_path():
    with pytest.raises(UserError, match="'noon' has too few images"):
        interpolated_views([image("a", 0.0)], CAMERAS, 10, 1)


def nerfstudio_path(**changes):
    """A camera at (1, 2, 3) in OpenGL axes that looks along +z of the world, y up there being -y here."""
    pose = [1, 0, 0, 1, 0, -1, 0, 2, 0, 0, -1, 3, 0, 0, 0, 1]
    frame = {"camera_to_world": pose, "fov": 90, "aspect": 2.0}
    tree = {"camera_type": "perspective", "render_width": 8, "render_height": 4, "camera_path": [frame, frame]}
    return tree | changes


def city_path(**changes):
    tree = {"width": 8, "height": 4, "fov_deg": 90, "frames": [{"world_from_cam": POSE.tolist(), "drive": "dusk"}]}
    return tree | changes


def read(tmp_path, tree, size=None):
    path = tmp_path / "path.json"
    path.write_text(tree if isinstance(tree, str) else json.dumps(tree))
    return read_camera_path(path, size)


def test_a_path_of_nerfstudios_viewer_is_brought_back_into_the_captures_frame(tmp_path, caplog):
    """Against the definition: file = scale * (transform @ world)."""
    turn = np.array([[0.6, -0.8, 0, 5], [0.8, 0.6, 0, -7], [0, 0, 1.0, 2]])
    (tmp_path / "dataparser_transforms.json").write_text(json.dumps({"transform": turn.tolist(), "scale": 0.01}))
    expected = read_camera_path_of(nerfstudio_path(), tmp_path / "plain")[0].world_from_cam
    tree = nerfstudio_path()
    for frame in tree["camera_path"][:1]:  # both are the same
        pose = np.reshape(frame["camera_to_world"], (4, 4)).astype(float)
        pose = np.vstack([turn, [0, 0, 0, 1]]) @ pose
        pose[:3, 3] *= 0.01
        frame["camera_to_world"] = pose.ravel().tolist()
    np.testing.assert_allclose(read(tmp_path, tree)[0].world_from_cam, expected, atol=1e-9)
    assert "dataparser_transforms.json" in caplog.text
    np.testing.assert_allclose(read(tmp_path, city_path())[0].world_from_cam, POSE)  # this form is the city's own


def read_camera_path_of(tree, folder):
    folder.mkdir()
    return read(folder, tree)


def manifest(offset_m=(0.0, 0.0, 0.0)):
    layout = Layout((0.0, 0.0, 0.0), ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)), "square", 20.0, 30.0)
    blocks = tuple(CityBlock(f"{k:03d}", (40.0 * k, 0.0, 2.0), ((40.0 * k, 0.0),)) for k in range(3))
    return Manifest("s", "camera", "distance", 4.0, 60.0, 3, 0.25, blocks, layout, world_offset_m=offset_m)


@pytest.mark.parametrize(
    ("places", "warning"),
    [
        ([(0, 0, 2), (80, 0, 2)], None),
        ([(40, 0, 90)], None),
        ([(1000, 0, 2)], "from the nearest block"),
        ([(0.1, 0.2, 0), (-0.9, 0.4, 0.1)], "within 1 of the origin"),
    ],
)
def test_a_path_far_from_the_city_is_said(places, warning, caplog):
    views = [View(WIDE, np.column_stack([np.eye(3), place]), 20, 10) for place in places]
    assert in_city(views, Path("path.json"), manifest()) == views
    assert (warning or "lies") in caplog.text if warning else caplog.text == ""


def test_a_path_in_the_captures_own_coordinates_is_shifted_as_the_capture_was(caplog):
    offset_m = (460000.0, 5300000.0, 300.0)
    shifted = [View(WIDE, np.column_stack([np.eye(3), (40.0, 1.0, 2.0)]), 20, 10)] * 2
    offset = np.pad(np.array(offset_m)[:, None], ((0, 0), (3, 0)))
    original = [replace(view, world_from_cam=view.world_from_cam + offset) for view in shifted]
    for views in (shifted, original):
        for view in in_city(views, Path("path.json"), manifest(offset_m)):
            np.testing.assert_allclose(view.world_from_cam, shifted[0].world_from_cam, atol=1e-9)
    assert caplog.text.count("own coordinates") == 1


def test_both_forms_of_a_file_say_the_same(tmp_path):
    nerfstudio_view, city_view = read(tmp_path, nerfstudio_path())[0], read(tmp_path, city_path())[0]
    np.testing.assert_allclose(nerfstudio_view.world_from_cam, city_view.world_from_cam)
    assert (nerfstudio_view.camera, nerfstudio_view.width, nerfstudio_view.height) == (
        city_view.camera,
        city_view.width,
        city_view.height,
    )
    assert city_view.drive == "dusk"


def test_the_field_of_view_is_vertical(tmp_path):
    view = read(tmp_path, city_path(fov_deg=60))[0]
    directions = view_rays(view).directions.reshape(4, 8, 3)
    top = directions[0, 4]
    edge = math.tan(math.radians(30))
    assert float(top[1] / top[2]) == pytest.approx(-edge * 3 / 4)
    size_wins = read(tmp_path, city_path(), (20, 10))[0]
    assert (size_wins.width, size_wins.height) == (20, 10)


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ("{", "camera path .*path.json is damaged"),
        ("[]", "neither a list `camera_path`"),
        (city_path(frames=[]), "path.json has no frame"),
        (nerfstudio_path(camera_type="fisheye"), "path.json is 'fisheye'; only perspective"),
        (nerfstudio_path(render_width=0), "has render_width 0; give a number of pixels"),
        (city_path(height="4"), "has height '4'"),
        (city_path(fov_deg=180), "Frame 0 .*path.json has fov_deg 180"),
        (city_path(fov_deg=None), "has fov_deg None"),
        (city_path(frames=[{}]), "Frame 0 .* has no world_from_cam"),
        (city_path(frames=[{"world_from_cam": [[1, 2], [3, 4]]}]), "no pose of 3 x 4"),
        (city_path(frames=[{"world_from_cam": "none"}]), "no pose of 3 x 4"),
        (city_path(frames=[{"world_from_cam": [float("nan")] * 12}]), "no pose of 3 x 4"),
        (city_path(frames=[{"world_from_cam": (2 * POSE).tolist()}]), "is not a rotation"),
        (city_path(frames=[{"world_from_cam": (np.diag([1.0, 1, -1]) @ POSE).tolist()}]), "is not a rotation"),
    ],
)
def test_a_bad_file_names_itself_and_the_frame(tmp_path, tree, message):
    with pytest.raises(UserError, match=message):
        read(tmp_path, tree)


def test_the_rate_of_a_camera_path_is_its_fps(tmp_path):
    for tree, fps in (({"fps": 30}, 30), ({"fps": 23.976}, 24), ({"frames": []}, None), ([], None)):
        (tmp_path / "path.json").write_text(json.dumps(tree))
        assert camera_path_fps(tmp_path / "path.json") == fps


@pytest.mark.parametrize("fps", ["24", True, 0, -1, 1e9])
def test_a_rate_that_is_none_is_named(tmp_path, fps):
    (tmp_path / "path.json").write_text(json.dumps({"fps": fps}))
    with pytest.raises(UserError, match=r"path\.json has fps .*give frames a second from 1"):
        camera_path_fps(tmp_path / "path.json")
