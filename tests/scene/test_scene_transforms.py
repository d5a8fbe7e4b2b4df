"""transforms.json in both dialects, and what a damaged one says."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blocknerf.core.camera import Camera
from blocknerf.core.config.dataset import DatasetConfig
from blocknerf.core.errors import UserError
from blocknerf.core.ply import write_points
from blocknerf.scene.rays import camera_directions
from blocknerf.scene.readers.read import read_scene
from blocknerf.scene.scene import Scene, scene_hash
from tests.support.scene_builders import colmap_capture, picture, poses, transforms_capture, write_transforms

CONFIG, WITH_DEPTH = DatasetConfig(), DatasetConfig(use_depth=True)


def only_camera(scene: Scene) -> Camera:
    (camera,) = scene.cameras.values()
    return camera


def test_poses_become_opencv(tmp_path: Path):
    transforms_capture(tmp_path)
    scene = read_scene(tmp_path, CONFIG)
    assert [image.name for image in scene.images] == [f"{i:04d}.png" for i in range(4)]
    for image, pose in zip(scene.images, poses(4), strict=True):
        assert np.allclose(image.world_from_cam, pose, atol=1e-12)
        assert image.drive == "0"


def test_one_camera_serves_all_frames_and_frames_may_have_their_own(tmp_path: Path):
    tree = transforms_capture(tmp_path)
    assert only_camera(read_scene(tmp_path, CONFIG)) == Camera("PINHOLE", 40, 30, (35.0, 36.0, 20.5, 14.5))
    tree["frames"][2] |= {"fl_x": 50.0, "fl_y": 51.0}
    write_transforms(tmp_path, tree)
    scene = read_scene(tmp_path, CONFIG)
    cameras = [scene.cameras[image.camera_key] for image in scene.images]
    assert len(scene.cameras) == 2
    assert cameras[2].params == (50.0, 51.0, 20.5, 14.5)
    assert cameras[0] == cameras[1] == cameras[3] != cameras[2]


def test_instant_ngp_angles_and_sizes_from_the_photographs(tmp_path: Path):
    tree = transforms_capture(tmp_path, size=(40, 30), camera_angle_x=2 * math.atan(0.5), aabb_scale=4)
    for key in ("fl_x", "fl_y", "cx", "cy", "w", "h"):
        del tree[key]
    write_transforms(tmp_path, tree)
    assert only_camera(read_scene(tmp_path, CONFIG)).params == pytest.approx((40.0, 40.0, 20.0, 15.0))
    picture(20, 50).save(tmp_path / "images/0002.png")
    scene = read_scene(tmp_path, CONFIG)
    by_name = {image.name: scene.cameras[image.camera_key] for image in scene.images}
    assert (by_name["0002.png"].width, by_name["0002.png"].params) == (20, pytest.approx((20.0, 20.0, 10.0, 25.0)))
    assert by_name["0003.png"].width == 40
    picture(40, 30).save(tmp_path / "images/0002.png")
    write_transforms(tmp_path, {**tree, "camera_angle_y": 2 * math.atan(0.25)})
    assert only_camera(read_scene(tmp_path, CONFIG)).params == pytest.approx((40.0, 60.0, 20.0, 15.0))


@pytest.mark.parametrize(
    ("extra", "model", "distortion"),
    [
        ({"k1": 0.1, "k2": 0.2, "p1": 0.3, "p2": 0.4}, "OPENCV", (0.1, 0.2, 0.3, 0.4)),
        ({"k1": 0.1, "camera_model": "OPENCV"}, "OPENCV", (0.1, 0.0, 0.0, 0.0)),
        ({"k1": 0.0, "camera_model": "SIMPLE_PINHOLE"}, "PINHOLE", ()),
        ({"k1": 0.1, "k3": 0.3}, "FULL_OPENCV", (0.1, 0.0, 0.0, 0.0, 0.3, 0.0, 0.0, 0.0)),
        ({"k1": 0.1, "k4": 0.4, "camera_model": "OPENCV_FISHEYE"}, "OPENCV_FISHEYE", (0.1, 0.0, 0.0, 0.4)),
        ({"k2": 0.2, "is_fisheye": True}, "OPENCV_FISHEYE", (0.0, 0.2, 0.0, 0.0)),
        (
            {"k1": 0.1, "k3": 0.3, "p2": 0.02, "camera_model": "OPENCV_FISHEYE"},
            "THIN_PRISM_FISHEYE",
            (0.1, 0.0, 0.0, 0.02, 0.3, 0.0, 0.0, 0.0),
        ),
    ],
)
def test_distortion(tmp_path: Path, extra: dict, model: str, distortion: tuple[float, ...]):
    transforms_capture(tmp_path, **extra)
    assert only_camera(read_scene(tmp_path, CONFIG)) == Camera(model, 40, 30, (35.0, 36.0, 20.5, 14.5, *distortion))


def test_paths_without_ending_with_dot_and_with_backslash(tmp_path: Path):
    tree = transforms_capture(tmp_path)
    for frame, path in zip(tree["frames"], ("./images/0000", "images\\0001.png", "images/0002", "3"), strict=True):
        frame["file_path"] = path
    picture(40, 30).save(tmp_path / "3.jpg")
    write_transforms(tmp_path, tree)
    assert [i.name for i in read_scene(tmp_path, CONFIG).images] == ["0000.png", "0001.png", "0002.png", "3.jpg"]


def test_frames_without_a_file_are_listed_and_left_out(tmp_path: Path):
    tree = transforms_capture(tmp_path)
    (tmp_path / "images/0001.png").unlink()
    tree["frames"][2]["transform_matrix"][0][0] = float("nan")
    write_transforms(tmp_path, tree)
    scene = read_scene(tmp_path, CONFIG)
    assert [image.name for image in scene.images] == ["0000.png", "0003.png"]
    assert [name for name, _ in scene.skipped] == ["0001.png", "0002.png"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda f: f["transform_matrix"][0].__setitem__(3, math.inf), "not finite"),
        (lambda f: f.update(transform_matrix=np.diag([1.0, 2, 1, 1]).tolist()), "is not a rotation"),
        (lambda f: f.update(transform_matrix=np.diag([1e-9, 1e-9, 1e-9, 1]).tolist()), "is not a rotation"),
        (lambda f: f.update(transform_matrix=np.diag([1.0, 1, -1, 1]).tolist()), "is not a rotation"),
        (lambda f: f.update(fl_x=0.0), "focal length that is zero or negative"),
        (lambda f: f.update(fl_x=None, camera_angle_x=-1.0), "focal length that is zero or negative"),
        (lambda f: f.update(k1=math.nan), "not finite"),
        (lambda f: f.update(w=math.nan), "0 x 30"),
        (lambda f: f.update(mask_path="masks/none.png"), "there is no mask"),
    ],
)
def test_bad_frames_are_listed_and_left_out(tmp_path: Path, change, reason: str):
    tree = transforms_capture(tmp_path)
    change(tree["frames"][1])
    write_transforms(tmp_path, tree)
    scene = read_scene(tmp_path, CONFIG)
    assert len(scene.images) == 3
    assert scene.skipped[0][0] == "0001.png"
    assert reason in scene.skipped[0][1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("frames"), "no list of frames"),
        (lambda t: t["frames"][1].pop("file_path"), "frame 1: 'file_path' must name an image"),
        (lambda t: t["frames"][1].update(transform_matrix=[[1, 2], [3, 4]]), "frame 1: 'transform_matrix' must have"),
        (lambda t: t["frames"][1].update(transform_matrix="x"), "frame 1: 'transform_matrix' holds"),
        (lambda t: t["frames"][1].update(fl_x="long"), "frame 1: 'fl_x' must be a number, not 'long'"),
        (lambda t: t.pop("fl_x"), "focal length is unknown"),
        (lambda t: t.update(camera_model="HOLGA"), "camera model 'HOLGA' cannot be read; known are PINHOLE"),
        (lambda t: t.update(test_filenames="all"), "'test_filenames' must be a list"),
        (lambda t: t["frames"][1].update(file_path="images/0000"), "two images of the name '0000.png'"),
        (lambda t: t.update(frames=t["frames"][:1]), "lists 1 images of which 1 can be used; at least 2"),
        (lambda t: t.update(frames=[]), "Is this the folder of a capture"),
    ],
)
def test_a_file_that_cannot_be_understood_is_a_sentence(tmp_path: Path, change, message: str):
    tree = transforms_capture(tmp_path)
    change(tree)
    write_transforms(tmp_path, tree)
    with pytest.raises(UserError, match=message) as caught:
        read_scene(tmp_path, CONFIG)
    assert str(tmp_path) in str(caught.value)


def test_truncated_json(tmp_path: Path):
    transforms_capture(tmp_path)
    path = tmp_path / "transforms.json"
    path.write_text(path.read_text()[:100])
    with pytest.raises(UserError, match="is damaged"):
        read_scene(tmp_path, CONFIG)


def test_masks_and_depth_that_frames_name(tmp_path: Path):
    tree = transforms_capture(tmp_path)
    Image.new("L", (40, 30), 255).save(tmp_path / "m.png")
    tree["frames"][0]["mask_path"] = "m.png"
    tree["frames"][1]["depth_file_path"] = "m.png"
    write_transforms(tmp_path, tree)
    assert {image.depth_path for image in read_scene(tmp_path, CONFIG).images} == {None}
    scene = read_scene(tmp_path, WITH_DEPTH)
    assert [image.mask_paths for image in scene.images] == [(tmp_path / "m.png",), (), (), ()]
    assert [image.depth_path for image in scene.images] == [None, tmp_path / "m.png", None, None]


def test_splits_of_the_file(tmp_path: Path):
    files = [f"images/{i:04d}.png" for i in range(4)]
    tree = transforms_capture(tmp_path)
    assert read_scene(tmp_path, CONFIG).test_names is None
    write_transforms(tmp_path, {**tree, "train_filenames": files[:2], "test_filenames": files[2:3]})
    scene = read_scene(tmp_path, CONFIG)
    assert scene.test_names == {"0002.png"}
    assert scene.skipped == (("0003.png", "it is neither in the training nor in the test list"),)
    write_transforms(tmp_path, {**tree, "train_filenames": files[:3]})
    assert read_scene(tmp_path, CONFIG).test_names == {"0003.png"}
    write_transforms(tmp_path, {**tree, "val_filenames": files[:1]})
    assert read_scene(tmp_path, CONFIG).test_names == {"0000.png"}


def test_colmap_goes_before_transforms_unless_told_otherwise(tmp_path: Path):
    transforms_capture(tmp_path)
    colmap_capture(tmp_path, names=[f"x/{number}.png" for number in range(4)])
    assert {image.drive for image in read_scene(tmp_path, CONFIG).images} == {"x"}
    assert len(read_scene(tmp_path, DatasetConfig(type="nerfstudio")).images) == 4


def test_sidecar(tmp_path: Path):
    transforms_capture(tmp_path)
    Image.new("L", (40, 30), 255).save(tmp_path / "m.png")
    images = {
        "0000.png": {"drive": "dusk", "exposure": 2, "mask": "m.png", "depth": "m.png", "hour": 19.5},
        "0001.png": {"exposure": 0.5},
        "unknown.png": {},
    }
    sidecar = tmp_path / "blocknerf_scene.json"
    sidecar.write_text(json.dumps({"version": 1, "images": images, "test_names": ["0001.png"]}))
    scene = read_scene(tmp_path, WITH_DEPTH)
    first, second = scene.images[:2]
    assert (first.drive, first.exposure, first.mask_paths, first.depth_path) == (
        "dusk",
        2.0,
        (tmp_path / "m.png",),
        tmp_path / "m.png",
    )
    assert (second.drive, second.exposure, second.mask_paths) == ("0", 0.5, ())
    assert scene.test_names == {"0001.png"}


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"version": 2}, "is of version 2; this program reads version 1"),
        ({"images": {}}, "is of version None"),
        ([], "is of version None"),
        ({"version": 1, "images": []}, "'images' must map"),
        ({"version": 1, "images": {"a": 3}}, "the image 'a' must have a mapping"),
        ({"version": 1, "images": {"a": {"driver": "x"}}}, "unknown property 'driver'; known are drive"),
        ({"version": 1, "images": {"a": {"exposure": 0}}}, "0 cannot be the exposure of the image 'a'"),
        ({"version": 1, "images": {"a": {"drive": 1}}}, "1 cannot be the drive of the image 'a'"),
        ({"version": 1, "test_names": "a"}, "'test_names' must be a list"),
    ],
)
def test_a_sidecar_that_cannot_be_understood_is_a_sentence(tmp_path: Path, tree, message: str):
    transforms_capture(tmp_path)
    (tmp_path / "blocknerf_scene.json").write_text(json.dumps(tree))
    with pytest.raises(UserError, match=message):
        read_scene(tmp_path, CONFIG)


def test_a_missing_depth_file_costs_the_depth_and_not_the_image(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    tree = transforms_capture(tmp_path)
    for frame in tree["frames"][:2]:
        frame["depth_file_path"] = "absent.png"
    tree["frames"][3]["depth_file_path"] = "there.npy"
    (tmp_path / "there.npy").touch()
    write_transforms(tmp_path, tree)
    scene = read_scene(tmp_path, WITH_DEPTH)
    assert [image.depth_path for image in scene.images] == [None, None, None, tmp_path / "there.npy"]
    assert scene.skipped == ()
    assert caplog.text.count("absent.png") == 1
    assert "2 images of" in caplog.text


def test_test_names_that_nobody_has_are_named(tmp_path: Path):
    tree = transforms_capture(tmp_path)
    write_transforms(tmp_path, {**tree, "test_filenames": ["images/0000.png", "images/9999.png"]})
    with pytest.raises(UserError, match="does not list: 9999.png. Names there are like"):
        read_scene(tmp_path, CONFIG)
    write_transforms(tmp_path, tree)
    sidecar = tmp_path / "blocknerf_scene.json"
    sidecar.write_text(json.dumps({"version": 1, "test_names": ["images/0001.png"]}))
    with pytest.raises(UserError, match=r"does not list: images/0001.png"):
        read_scene(tmp_path, CONFIG)
    sidecar.write_text(json.dumps({"version": 1, "test_names": ["0001.png"]}))
    (tmp_path / "images/0001.png").unlink()  # left out, and so listed among the skipped, is no mistake in the list
    assert read_scene(tmp_path, CONFIG).skipped[0][0] == "0001.png"


def shifted(tree: dict, offset: tuple[float, float, float], stretch: float = 1.0) -> dict:
    for frame in tree["frames"]:
        for axis in range(3):
            frame["transform_matrix"][axis][3] = frame["transform_matrix"][axis][3] * stretch + offset[axis]
    return tree


@pytest.mark.parametrize(("offset", "stretch"), [((1e3, 1e3, 0.0), 1), ((1e5, 0.0, 0.0), 1e3), ((5e6, 0.0, 0.0), 0)])
def test_positions_that_rays_can_tell_apart_are_taken(tmp_path: Path, offset, stretch):
    write_transforms(tmp_path, shifted(transforms_capture(tmp_path), offset, stretch))
    scene = read_scene(tmp_path, CONFIG)
    assert len(scene.images) == 4
    assert scene.world_offset_m == (0, 0, 0)


def test_the_hash_does_not_see_the_last_bits_of_a_pose(tmp_path: Path):
    transforms_capture(tmp_path)
    scene = read_scene(tmp_path, CONFIG)

    def with_poses(change) -> str:
        return scene_hash(replace(scene, images=tuple(replace(i, world_from_cam=change(i)) for i in scene.images)))

    same = scene_hash(scene)
    assert with_poses(lambda image: image.world_from_cam + 1e-15) == same
    assert any((np.abs(image.world_from_cam) < 1e-12).any() for image in scene.images)
    assert with_poses(lambda i: np.where(np.abs(i.world_from_cam) < 1e-12, -1e-17, i.world_from_cam)) == same
    assert with_poses(lambda image: image.world_from_cam + 1e-5) != same


def test_depth_wanted_where_no_image_has_any_is_a_sentence(tmp_path: Path):
    tree = transforms_capture(tmp_path)
    message = r"dataset\.use_depth is true, but no image of .* has a depth map\..*set dataset\.use_depth=false"
    with pytest.raises(UserError, match=message):
        read_scene(tmp_path, WITH_DEPTH)
    tree["frames"][0]["depth_file_path"] = "absent.npy"
    write_transforms(tmp_path, tree)
    with pytest.raises(UserError, match=message):
        read_scene(tmp_path, WITH_DEPTH)


def test_a_panorama_looks_all_around(tmp_path: Path):
    tree = transforms_capture(tmp_path, size=(40, 20), camera_model="EQUIRECTANGULAR", cx=20.0, cy=10.0)
    for key in ("fl_x", "fl_y"):
        del tree[key]
    write_transforms(tmp_path, tree)
    camera = only_camera(read_scene(tmp_path, CONFIG))
    longitude, latitude = np.meshgrid(
        2 * np.pi * ((np.arange(40) + 0.5) / 40 - 0.5), np.pi * ((np.arange(20) + 0.5) / 20 - 0.5)
    )
    right, down = np.sin(longitude) * np.cos(latitude), np.sin(latitude)
    expected = np.stack([right, down, np.cos(longitude) * np.cos(latitude)], axis=2)
    assert np.abs(camera_directions(camera, 40, 20) - expected).max() < 1e-6


def test_tangential_distortion_of_a_fisheye(tmp_path: Path):
    """The equations of OpenCV: x' = x (1 + k1 r^2) + 2 p1 x y + p2 (r^2 + 2 x^2), with r the angle to the axis."""
    k1, p1, p2 = 0.02, 0.003, -0.005
    transforms_capture(tmp_path, camera_model="OPENCV_FISHEYE", k1=k1, p1=p1, p2=p2)
    camera = only_camera(read_scene(tmp_path, CONFIG))
    directions = camera_directions(camera, 40, 30).astype(float)
    across = np.linalg.norm(directions[..., :2], axis=2)
    angle = np.arctan2(across, directions[..., 2])
    x, y = np.moveaxis(directions[..., :2], 2, 0) * angle / np.maximum(across, 1e-9)
    bent_x = x * (1 + k1 * angle**2) + 2 * p1 * x * y + p2 * (angle**2 + 2 * x**2)
    bent_y = y * (1 + k1 * angle**2) + 2 * p2 * x * y + p1 * (angle**2 + 2 * y**2)
    columns, rows = np.meshgrid(np.arange(40) + 0.5, np.arange(30) + 0.5)
    assert np.abs(35 * bent_x + 20.5 - columns).max() < 1e-3
    assert np.abs(36 * bent_y + 14.5 - rows).max() < 1e-3


def test_what_was_done_to_poses_before_is_not_done_again(tmp_path: Path):
    tree = transforms_capture(tmp_path)
    before = read_scene(tmp_path, CONFIG).centers_world
    turned = [[0, 1, 0, 5], [1, 0, 0, 6], [0, 0, -1, 7]]
    write_transforms(
        tmp_path, {**tree, "applied_transform": turned, "applied_scale": 0.1, "orientation_override": "up"}
    )
    assert np.array_equal(read_scene(tmp_path, CONFIG).centers_world, before)


def test_a_crop_radius_is_passed_over_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    transforms_capture(tmp_path, fisheye_crop_radius=12.0)
    read_scene(tmp_path, CONFIG)
    assert "'fisheye_crop_radius' is ignored" in caplog.text


def test_points_that_the_file_names(tmp_path: Path):
    rng = np.random.default_rng(0)
    points, colours = rng.normal(size=(9, 3)), rng.integers(0, 256, (9, 3), np.uint8)
    transforms_capture(tmp_path, ply_file_path="sparse_pc.ply")
    write_points(tmp_path / "sparse_pc.ply", points, colours)
    scene = read_scene(tmp_path, CONFIG)
    assert np.allclose(scene.points_world, points, atol=1e-6)
    assert np.array_equal(scene.points_rgb, colours)
    assert all(len(image.point_rows) == 0 for image in scene.images)


def test_points_that_are_missing_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    transforms_capture(tmp_path, ply_file_path="sparse_pc.ply")
    assert read_scene(tmp_path, CONFIG).points_world.shape == (0, 3)
    assert "sparse_pc.ply, and there is no such file" in caplog.text


def test_points_that_are_none(tmp_path: Path):
    transforms_capture(tmp_path, ply_file_path="p.ply")
    (tmp_path / "p.ply").write_bytes(b"obj\n")
    with pytest.raises(UserError, match="p.ply cannot be read as PLY: it does"):
        read_scene(tmp_path, CONFIG)
