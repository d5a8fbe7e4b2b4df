"""Keys of transforms.json that change geometry: read by their own equations, or refused with the reason."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from blocknerf.core.camera import Camera
from blocknerf.core.config.dataset import DatasetConfig
from blocknerf.core.errors import UserError
from blocknerf.scene.photographs import read_masks
from blocknerf.scene.rays import camera_directions
from blocknerf.scene.readers.lens_fits import NoFit, angle_lens, polynomial_lens
from blocknerf.scene.readers.read import read_scene
from blocknerf.scene.scene import Scene
from tests.support.scene_builders import poses, transforms_capture, write_transforms

CONFIG = DatasetConfig()
COLUMNS, ROWS = np.meshgrid(np.arange(40) + 0.5, np.arange(30) + 0.5)


def only_camera(scene: Scene) -> Camera:
    (camera,) = scene.cameras.values()
    return camera


def without(tree: dict, *keys: str) -> dict:
    return {key: value for key, value in tree.items() if key not in keys}


def polynomial_pixels(directions: np.ndarray, focal_px: float, center: tuple[float, float], k, p) -> np.ndarray:
    """Brown's lens as Metashape writes it: x (1 + k1 r^2 + ... + k4 r^8) + 2 p1 x y + p2 (r^2 + 2 x^2)."""
    x, y = directions[..., 0] / directions[..., 2], directions[..., 1] / directions[..., 2]
    square = x**2 + y**2
    radial = 1 + sum(value * square ** (power + 1) for power, value in enumerate(k))
    bent_x = x * radial + 2 * p[0] * x * y + p[1] * (square + 2 * x**2)
    bent_y = y * radial + 2 * p[1] * x * y + p[0] * (square + 2 * y**2)
    return np.stack([focal_px * bent_x + center[0], focal_px * bent_y + center[1]], axis=-1)


small = st.floats(-0.1, 0.1)


@settings(max_examples=40, deadline=None)
@given(st.tuples(small, small, small, small), st.tuples(st.floats(-0.003, 0.003), st.floats(-0.003, 0.003)))
def test_four_terms_are_a_polynomial(k, p):
    """Or it is said that they are none of COLMAP's lenses."""
    try:
        camera = polynomial_lens((40, 30), (35.0, 35.0), (20.5, 14.5), k, p)
    except NoFit:
        return
    directions = camera_directions(camera, 40, 30).astype(np.float64)
    seen = np.isfinite(directions).all(axis=2)
    again = polynomial_pixels(directions, 35.0, (20.5, 14.5), k, p)
    errors = np.abs(again - np.stack([COLUMNS, ROWS], axis=-1))[seen]
    assert seen.mean() > 0.5
    assert errors.max() < 0.06


def test_the_lens_of_a_telephone_is_fitted_closely(tmp_path: Path):
    k, p = (0.058, -0.081, 0.02, 0.05), (-0.001, 0.0002)
    names = ("k1", "k2", "k3", "k4", "p1", "p2")
    transforms_capture(tmp_path, camera_model="OPENCV", fl_y=35.0, **dict(zip(names, (*k, *p), strict=True)))
    listed = only_camera(read_scene(tmp_path, CONFIG))
    again = polynomial_pixels(camera_directions(listed, 40, 30).astype(float), 35.0, (20.5, 14.5), k, p)
    assert np.abs(again - np.stack([COLUMNS, ROWS], axis=-1)).max() < 0.005
    tree = transforms_capture(tmp_path, camera_model="OPENCV", fl_y=35.0, distortion_params=[*k, *p])
    assert only_camera(read_scene(tmp_path, CONFIG)) == listed
    write_transforms(tmp_path, {**tree, "k1": 0.1, "k4": 0.4, "camera_model": "FULL_OPENCV", "distortion_params": None})
    assert only_camera(read_scene(tmp_path, CONFIG)).params[4:] == (0.1, 0, 0, 0, 0, 0.4, 0, 0)


def test_a_lens_that_folds_is_refused(tmp_path: Path):
    transforms_capture(tmp_path, k1=-0.9, k4=0.01)
    with pytest.raises(UserError, match="its lens, k1 to k4, folds the picture over"):
        read_scene(tmp_path, CONFIG)


@pytest.mark.parametrize(
    "angles", [(0.0, 0.02, 0.0, 0.0, 0.0), (0.0, 0.02, 0.0, 1e-6, 0.0), (0.0, 0.02, 2e-6, 0, -1e-8)]
)
def test_f_theta(tmp_path: Path, angles):
    tree = transforms_capture(tmp_path, **{f"ftheta_p{exponent}": value for exponent, value in enumerate(angles)})
    write_transforms(tmp_path, without(tree, "fl_x", "fl_y"))
    directions = camera_directions(only_camera(read_scene(tmp_path, CONFIG)), 40, 30).astype(float)
    radius = np.hypot(COLUMNS - 20.5, ROWS - 14.5)
    theta = np.arctan2(np.hypot(directions[..., 0], directions[..., 1]), directions[..., 2])
    assert np.abs(theta - sum(value * radius**exponent for exponent, value in enumerate(angles))).max() < 0.02 * 0.02


def test_f_theta_that_is_no_lens_of_colmap_is_refused():
    with pytest.raises(NoFit, match=r"the nearest is .* pixels off"):
        angle_lens((400, 300), (200.0, 150.0), (0.0, 0.002, 8e-6, 0.0, 0.0))
    with pytest.raises(NoFit, match="do not rise"):
        angle_lens((400, 300), (200.0, 150.0), (0.0, -0.002, 0.0, 0.0, 0.0))


def test_fields_of_view_in_degrees_and_numbers_as_text(tmp_path: Path):
    tree = transforms_capture(tmp_path)
    for keys in ({"x_fov": "53.130102354", "y_fov": 90}, {"camera_angle_x": 2 * math.atan(0.5), "y_fov": 90}):
        write_transforms(tmp_path, {**without(tree, "fl_x", "fl_y"), **keys, "w": "40", "h": " 30 "})
        assert only_camera(read_scene(tmp_path, CONFIG)).params == pytest.approx((40, 15, 20.5, 14.5))


def test_latlong_is_a_panorama(tmp_path: Path):
    tree = transforms_capture(tmp_path, size=(40, 20), latlong=True, camera_angle_x=1.0)
    for keys in (("fl_x", "fl_y", "cx", "cy"), ("fl_x", "fl_y", "cx", "cy", "w", "h", "camera_angle_x")):
        write_transforms(tmp_path, without(tree, *keys))
        assert only_camera(read_scene(tmp_path, CONFIG)) == Camera("EQUIRECTANGULAR", 40, 20, (40.0, 20.0))
    write_transforms(tmp_path, {**tree, "latlong": False})
    assert only_camera(read_scene(tmp_path, CONFIG)).model == "PINHOLE"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"equirectangular": True}, "'equirectangular' of instant-ngp keeps areas"),
        ({"is_fisheye": True, "camera_model": "OPENCV"}, "'is_fisheye' is true, but 'camera_model' is 'OPENCV'"),
        ({"distortion_params": [0.1, 0.2]}, "'distortion_params' must be a list of k1"),
        ({"cx": 554.0}, r"principal point \(554, 14.5\) lies outside of the picture of 40 x 30"),
        ({"integer_depth_scale": 0}, "'integer_depth_scale' must be more than 0"),
        ({"w": True}, "'w' must be a number, not True"),
    ],
)
def test_what_is_not_read_is_refused(tmp_path: Path, keys: dict, message: str):
    transforms_capture(tmp_path, **keys)
    with pytest.raises(UserError, match=message):
        read_scene(tmp_path, CONFIG)


def test_intrinsics_of_a_larger_picture_where_no_size_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    tree = transforms_capture(tmp_path)
    large = {**without(tree, "w", "h"), "fl_x": 280.0, "fl_y": 288.0, "cx": 164.0, "cy": 118.0}
    write_transforms(tmp_path, large)
    assert only_camera(read_scene(tmp_path, CONFIG)).params == pytest.approx((35, 36, 20.5, 14.75))
    assert caplog.text.count("8 times as large as 0000.png (40 x 30)") == 1
    write_transforms(tmp_path, {**large, "cy": 70.0})
    with pytest.raises(UserError, match=r"lies outside .* give 'w' and 'h'"):
        read_scene(tmp_path, CONFIG)
    write_transforms(tmp_path, {**large, "cx": 12.0, "cy": 25.0})  # of a part that was cut out
    assert only_camera(read_scene(tmp_path, CONFIG)).params[2:] == (12.0, 25.0)


def test_dynamic_masks_hide_where_they_are_not_0(tmp_path: Path):
    tree = transforms_capture(tmp_path)
    hidden = np.zeros((30, 40, 3), np.uint8)
    hidden[:10, :, 1] = 1
    Image.fromarray(hidden).save(tmp_path / "images/dynamic_mask_0001.png")
    Image.new("L", (40, 30), 255).save(tmp_path / "m.png")
    tree["frames"][1]["mask_path"] = "m.png"
    write_transforms(tmp_path, tree)
    paths = [image.mask_paths for image in read_scene(tmp_path, CONFIG).images]
    assert [len(one) for one in paths] == [0, 2, 0, 0]
    kept = read_masks(paths[1], (40, 30))
    assert kept is not None
    assert not kept[:10].any()
    assert kept[10:].all()


def test_rays_of_instant_ngp_are_not_passed_over(tmp_path: Path):
    transforms_capture(tmp_path)
    (tmp_path / "images/rays_0001.dat").touch()
    with pytest.raises(UserError, match="frame 1: beside the photograph lie its rays"):
        read_scene(tmp_path, CONFIG)


def test_keys_that_nobody_knows_are_named_once(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    tree = transforms_capture(tmp_path, lens_tilt=3, aabb_scale=16, applied_scale=2.0)
    for frame in tree["frames"][:2]:
        frame |= {"gimbal": 1, "sharpness": 30.0}
    write_transforms(tmp_path, tree)
    read_scene(tmp_path, CONFIG)
    (line,) = [record.message for record in caplog.records if "(not supported)" in record.message]
    assert "'lens_tilt', 'gimbal' in 2 frames are ignored" in line
    assert "aabb" not in line


def test_a_moving_camera_is_refused_and_a_still_one_read(tmp_path: Path):
    tree = transforms_capture(tmp_path)
    for frame in tree["frames"]:
        frame["transform_matrix_start"] = frame["transform_matrix_end"] = frame.pop("transform_matrix")
    write_transforms(tmp_path, {**tree, "rolling_shutter": [0, 0, 1, 0]})
    scene = read_scene(tmp_path, CONFIG)
    assert np.allclose(scene.images[1].world_from_cam, poses(4)[1])
    tree["frames"][1]["transform_matrix_end"] = tree["frames"][0]["transform_matrix_end"]
    write_transforms(tmp_path, tree)
    with pytest.raises(UserError, match="frame 1: the camera moves while it exposes"):
        read_scene(tmp_path, CONFIG)


def test_scaled_rotations_lose_their_scale(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    tree = transforms_capture(tmp_path)
    for frame in tree["frames"][:3]:
        matrix = np.array(frame["transform_matrix"])
        matrix[:3, :3] *= 0.5
        frame["transform_matrix"] = matrix.tolist()
    write_transforms(tmp_path, tree)
    scene = read_scene(tmp_path, CONFIG)
    for image, pose in zip(scene.images, poses(4), strict=True):
        assert np.allclose(image.world_from_cam, pose, atol=1e-12)
    assert "3 of 4 poses are scaled, by 0.5 to 0.5" in caplog.text


def test_a_frame_that_is_listed_twice_counts_once(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    tree = transforms_capture(tmp_path)
    write_transforms(tmp_path, {**tree, "frames": [*tree["frames"], tree["frames"][1]]})
    assert len(read_scene(tmp_path, CONFIG).images) == 4
    assert "1 of 5 images are listed again" in caplog.text
    other = {**tree["frames"][1], "transform_matrix": tree["frames"][0]["transform_matrix"]}
    write_transforms(tmp_path, {**tree, "frames": [*tree["frames"], other]})
    with pytest.raises(UserError, match="two images of the name '0001.png', and not"):
        read_scene(tmp_path, CONFIG)


def blender_capture(root: Path, counts: dict[str, int]) -> None:
    tree = transforms_capture(root, count=sum(counts.values()))
    top = {"camera_angle_x": 2 * math.atan(0.5)}
    for part, count in counts.items():
        (root / part).mkdir()
        frames = [tree["frames"].pop(0) for _ in range(count)]
        for number, frame in enumerate(frames):
            (root / frame["file_path"]).rename(root / f"{part}/r_{number}.png")
            (root / f"{part}/r_{number}_depth_0001.png").touch()
            frame |= {"file_path": f"./{part}/r_{number}", "rotation": 0.01}
        write_transforms(root, {**top, "frames": frames})
        (root / "transforms.json").rename(root / f"transforms_{part}.json")


@pytest.mark.parametrize(
    ("counts", "test"),
    [
        ({"train": 3, "val": 2, "test": 2}, {"test/r_0.png", "test/r_1.png"}),
        ({"train": 3, "val": 1}, {"val/r_0.png"}),
        ({"train": 3}, None),
        ({"test": 3}, None),
    ],
)
def test_blender_with_its_split(tmp_path: Path, caplog: pytest.LogCaptureFixture, counts: dict, test):
    blender_capture(tmp_path, counts)
    scene = read_scene(tmp_path, DatasetConfig(type="blender"))
    assert scene.test_names == test
    assert {image.drive for image in scene.images} == {"0"}
    assert len(scene.images) == sum(counts.values()) - (counts.get("val", 0) if "test" in counts else 0)
    assert only_camera(scene).params == pytest.approx((40, 40, 20, 15))
    assert np.allclose(scene.images[-1].world_from_cam[:, :3] @ scene.images[-1].world_from_cam[:, :3].T, np.eye(3))
    assert ("images for validation are not read" in caplog.text) == ("test" in counts and "val" in counts)


def test_blender_with_one_photograph_in_both_parts(tmp_path: Path):
    blender_capture(tmp_path, {"train": 3, "test": 2})
    (tmp_path / "transforms_test.json").write_bytes((tmp_path / "transforms_train.json").read_bytes())
    with pytest.raises(UserError, match="3 photographs, as 'train/r_0.png', are in transforms_train"):
        read_scene(tmp_path, CONFIG)
