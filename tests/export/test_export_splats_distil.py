"""Splats learn what a city shows: where they begin, what they come to, and the command."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from blocknerf.cli.export_splats import export_splats
from blocknerf.cli.main import main
from blocknerf.core.camera import Camera
from blocknerf.core.errors import UserError
from blocknerf.core.seeds import generator
from blocknerf.export.distillation_views import TeacherView, pixel_m, splat_camera, splat_lens, views_between
from blocknerf.export.paths import View
from blocknerf.export.splat_init import discs, first_splats, surface_samples, thinned
from blocknerf.export.splats_distil import Distillation, distil, to_gaussians, to_splats
from blocknerf.export.splats_file import read_splats
from blocknerf.geometry import so3
from blocknerf.rendering.splatting import distorted, render_splats
from blocknerf.scene.rays import camera_directions
from tests.support.room import HALF_ROOM_M, wall_colours, wall_distances_m, write_room
from tests.support.tiny_run import tiny_run, train

CAMERA = Camera("PINHOLE", 40, 30, (28.0, 28.0, 20.0, 15.0))


def _view(yaw: float, center=(0.0, 0.0, 0.0), camera: Camera = CAMERA) -> TeacherView:
    """The painted room as a city that has learned it well."""
    forward = np.array([math.cos(yaw), math.sin(yaw), 0.1])
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, [0, 0, 1.0])
    right /= np.linalg.norm(right)
    pose = np.stack([right, np.cross(forward, right), forward, np.array(center)], 1)
    flat = camera_directions(camera, camera.width, camera.height).reshape(-1, 3).astype(np.float64) @ pose[:, :3].T
    origins = np.broadcast_to(np.array(center), flat.shape)
    shape = (camera.height, camera.width)
    return TeacherView(
        splat_lens(camera, camera.width, camera.height),
        torch.from_numpy(pose).float(),
        torch.from_numpy((255 * wall_colours(origins, flat) + 0.5).astype(np.uint8)).reshape(*shape, 3),
        torch.ones(shape),
        torch.from_numpy(wall_distances_m(origins, flat)[:, 0]).float().reshape(shape),
        torch.from_numpy(flat).float().reshape(*shape, 3),
    )


@pytest.fixture(scope="module")
def room_views() -> list[TeacherView]:
    return [_view(2 * math.pi * i / 14, (math.sin(i), math.cos(2 * i), 0.2 * math.sin(3 * i))) for i in range(14)]


def _psnr(splats, view: TeacherView) -> float:
    rendered = render_splats(splats, view.lens, view.world_from_cam, 0.05)[:3].permute(1, 2, 0).clamp(0, 1)
    return float(-10 * torch.log10((rendered - view.rgb.float() / 255).square().mean()))


@pytest.mark.parametrize("model", ["SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV"])
@pytest.mark.parametrize("scale", [1, 2])
def test_a_splat_lens_sees_along_the_rays_of_its_camera(model, scale):
    values = {
        "SIMPLE_PINHOLE": (30, 20, 16),
        "PINHOLE": (30, 31, 20, 16),
        "SIMPLE_RADIAL": (30, 20, 16, 0.1),
        "RADIAL": (30, 20, 16, 0.1, -0.03),
        "OPENCV": (30, 31, 20, 16, 0.1, -0.03, 0.01, 0.02),
    }[model]
    camera = Camera(model, 40, 32, tuple(map(float, values)))
    assert splat_camera(camera) is camera
    width, height = 40 // scale, 32 // scale
    rays = torch.from_numpy(camera_directions(camera, width, height)).double()
    pixels = distorted((rays[..., :2] / rays[..., 2:]).reshape(-1, 2), splat_lens(camera, width, height))
    ys, xs = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    torch.testing.assert_close(pixels, torch.stack([xs, ys], -1).reshape(-1, 2).double() + 0.5, atol=1e-3, rtol=0)


def test_a_fisheye_is_replaced_by_a_pinhole():
    stand_in = splat_camera(Camera("OPENCV_FISHEYE", 40, 32, (15.0, 15.0, 20.0, 16.0, 0.1, 0.0, 0.0, 0.0)))
    assert (stand_in.model, stand_in.params) == ("PINHOLE", (15.0, 15.0, 20.0, 16.0))


def test_samples_lie_on_the_walls_and_face_the_camera(room_views):
    view = room_views[3]
    samples = surface_samples(view)
    assert len(samples.points) > 1000
    torch.testing.assert_close(samples.points.abs().amax(-1), torch.full((len(samples.points),), HALF_ROOM_M))
    to_camera = view.world_from_cam[:, 3] - samples.points
    assert ((samples.normals * to_camera).sum(-1) > 0).all()
    aligned = (samples.normals.abs().amax(-1) > 0.999).float().mean()
    assert aligned > 0.7  # but in the corners of the room
    centre = pixel_m(view)[15, 20] / (view.distance_m[15, 20] / 28)
    assert float(centre) == pytest.approx(1)


def test_thinning_keeps_one_in_each_cell_and_finer_ones_before_coarser():
    rng = torch.Generator().manual_seed(0)
    points = torch.rand(5000, 3, generator=rng)
    wanted = torch.where(points[:, 0] < 0.5, 0.05, 0.2)
    rows, apart = thinned(points, wanted, 400)
    assert 200 < len(rows) <= 400
    assert len(rows.unique()) == len(rows)
    cells = torch.floor(points[rows] / apart[rows, None])
    for width in apart[rows].unique():
        level_cells = cells[apart[rows] == width]
        assert len(level_cells.unique(dim=0)) == len(level_cells)
    left = (points[rows, 0] < 0.5).float().mean()
    assert left > 0.9
    everything, _ = thinned(points[:300], torch.full((300,), 1e-4), 400)
    assert len(everything) == 300


def test_discs_face_along_their_normals():
    normals = torch.nn.functional.normalize(torch.randn(50, 3, generator=torch.Generator().manual_seed(1)), dim=-1)
    from blocknerf.export.splat_init import SurfaceSamples

    made = discs(SurfaceSamples(normals, normals, normals.abs(), torch.ones(50)), torch.ones(50), 1, 0.7)
    axes = so3.from_quaternion(made.quaternions)
    torch.testing.assert_close(axes[:, :, 2], normals, atol=1e-5, rtol=0)
    assert (made.log_scales[:, 2] < made.log_scales[:, 0] - 1).all()
    np.testing.assert_allclose(to_splats(made).mean_rgb, normals.abs().numpy(), atol=1e-6)


def test_splats_begin_near_and_learn_to_show_the_room(room_views):
    unseen = _view(1.0, (0.3, -0.4, 0.1))
    plan = Distillation(splats=2500, steps=120, degree=1, rounds=3)
    begun = first_splats(room_views, 1500, 1, generator(0, "begin"))
    heard: list[float] = []
    learned = distil(room_views, plan, 0.05, generator(0, "steps"), lambda step, error: heard.append(error))
    assert len(heard) == 120
    assert _psnr(begun, unseen) > 17
    assert _psnr(learned, unseen) > max(25, _psnr(begun, unseen) + 4)
    assert 1500 < len(learned.means) <= 2500
    again = distil(room_views, plan, 0.05, generator(0, "steps"))
    assert all(torch.equal(getattr(again, name), getattr(learned, name)) for name in learned.__slots__)


def test_what_hangs_in_the_air_is_not_begun_with(room_views):
    """One picture whose distances are too short by a fifth would hide the room from all others."""
    import dataclasses

    wrong = dataclasses.replace(room_views[0], distance_m=0.8 * room_views[0].distance_m)
    begun = first_splats([wrong, *room_views[1:]], 3000, 0, generator(0, "air"))
    on_walls = ((begun.means.abs().amax(-1) - HALF_ROOM_M).abs() < 1e-3).float().mean()
    assert on_walls > 0.97


def test_views_between_stand_between_neighbours():
    poses = []
    for i in range(8):
        pose = np.eye(3, 4)
        pose[0, 3] = i
        poses.append(pose)
    views = [View(CAMERA, pose, 40, 30, "0") for pose in poses]
    between = views_between(views, 20, generator(0, "between"))
    assert len(between) == 20
    for view in between:
        np.testing.assert_allclose(view.world_from_cam[:, :3], np.eye(3), atol=1e-9)
        assert 0 <= view.world_from_cam[0, 3] <= 7
        assert np.abs(view.world_from_cam[1:, 3]).max() < 1e-9
    assert views_between(views[:1], 5, generator(0, "alone")) == []


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "out"
    train(tiny_run(write_room(tmp_path_factory.mktemp("scene")), out))
    return out


def test_the_command(trained, tmp_path):
    file, small = tmp_path / "city.spz", ["--splats", "300", "--steps", "6", "--views", "6", "--degree", "1"]
    main(["export", "splats", str(trained), "--out", str(file), "--longest-side", "16", *small])
    splats = read_splats(file)
    assert splats.degree == 1
    assert 0 < len(splats) <= 300
    export_splats(trained, splats=200, steps=2, views=3, degree=0, block="000", drive="noon")
    assert read_splats(trained / "splats.ply").degree == 0
    assert to_gaussians(read_splats(trained / "splats.ply")).means.shape[1] == 3


def test_what_cannot_be_exported_is_said(trained, tmp_path):
    with pytest.raises(UserError, match="no trained block '007'. It has: 000"):
        export_splats(trained, block="007")
    with pytest.raises(UserError, match="written as .ply or .spz"):
        export_splats(trained, file=tmp_path / "a.obj")
    with pytest.raises(UserError, match="not trained on a drive 'night'"):
        export_splats(trained, drive="night")
    with pytest.raises(UserError, match="--longest-side 0: give a number of 1 or more"):
        export_splats(trained, longest_side=0)
    untrained = tmp_path / "untrained"
    untrained.mkdir()
    for name in ("config.json", "plan.json", "scene.json", "city.json"):
        (untrained / name).write_text((trained / name).read_text())
    with pytest.raises(UserError, match="No block of .* has been trained yet"):
        export_splats(untrained)
