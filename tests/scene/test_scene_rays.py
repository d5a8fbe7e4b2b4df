"""Directions of every camera model against the model's own projection, and the law of pixel centres."""

import numpy as np
import pytest

from blocknerf.core.camera import Camera
from blocknerf.core.errors import UserError
from blocknerf.scene.colmap_module import pycolmap
from blocknerf.scene.rays import camera_directions, camera_rays, directions_at, focal_lengths, rescale_camera
from tests.support.scene_builders import poses

MODELS = [name for name in pycolmap.CameraModelId.__members__ if name != "INVALID"]
BENT = {
    "k": 0.05,
    "k0": 0.03,
    "k1": 0.04,
    "k2": -0.02,
    "p1": 1e-3,
    "p2": -2e-3,
    "omega": 0.6,
    "sx1": 1e-3,
    "alpha": 0.5,
}


def bent_camera(model: str, width: int = 60, height: int = 44) -> Camera:
    camera = pycolmap.Camera.create_from_model_name(1, model, 55.0, width, height)
    names = [name.strip() for name in camera.params_info.split(",")]
    params = [BENT.get(name, value) for name, value in zip(names, camera.params, strict=True)]
    return Camera(model, width, height, tuple(map(float, params)))


def project(camera: Camera, directions: np.ndarray) -> np.ndarray:
    model = pycolmap.Camera(model=camera.model, width=camera.width, height=camera.height, params=list(camera.params))
    return np.asarray(model.img_from_cam(directions.reshape(-1, 3).astype(np.float64), False))


@pytest.mark.parametrize("model", MODELS)
def test_directions_project_back_onto_pixel_centres(model: str):
    camera = bent_camera(model)
    directions = camera_directions(camera, 60, 44)
    ys, xs = np.mgrid[0:44, 0:60] + 0.5
    centres = np.stack([xs, ys], -1).reshape(-1, 2)
    assert np.abs(project(camera, directions) - centres).max() < 1e-3
    assert np.abs(np.linalg.norm(directions, axis=2) - 1).max() < 1e-6


def test_pinhole_directions_are_the_formula():
    camera = Camera("PINHOLE", 8, 6, (10.0, 12.0, 4.5, 2.5))
    x, y = (3.5 - 4.5) / 10, (1.5 - 2.5) / 12
    expected = np.array([x, y, 1]) / np.sqrt(x * x + y * y + 1)
    assert np.allclose(camera_directions(camera, 8, 6)[1, 3], expected, atol=1e-7)


@pytest.mark.parametrize("size", [(30, 22), (20, 11), (120, 88)])
def test_a_resized_image_looks_through_the_same_points(size: tuple[int, int]):
    camera = bent_camera("OPENCV")
    width, height = size
    points = np.array([[(7 + 0.5) * 60 / width, (5 + 0.5) * 44 / height]])
    assert np.allclose(camera_directions(camera, width, height)[5, 7], directions_at(camera, points)[0], atol=1e-6)


def test_rescaled_camera_sees_the_same_directions():
    camera = bent_camera("OPENCV_FISHEYE")
    assert np.allclose(
        camera_directions(rescale_camera(camera, 30, 22), 30, 22), camera_directions(camera, 30, 22), atol=1e-5
    )


def test_pixels_that_cannot_be_undistorted_are_nan_and_rays_stay_finite():
    camera = Camera("OPENCV", 60, 44, (30.0, 30.0, 30.0, 22.0, -0.8, 0.1, 0.0, 0.0))
    directions = camera_directions(camera, 60, 44)
    missing = np.isnan(directions).any(axis=2)
    assert missing[0, 0]
    assert not missing[22, 30]
    rays = camera_rays(camera, poses(1)[0], 60, 44)
    assert bool(rays.directions.isfinite().all())


def test_a_fisheye_sees_its_half_space_and_marks_the_rest():
    camera = Camera("SIMPLE_FISHEYE", 400, 40, (100.0, 200.0, 20.0))
    directions = camera_directions(camera, 400, 40)[20]
    angle = np.hypot(np.arange(400) + 0.5 - 200, 0.5) / 100
    seen = angle < np.pi / 2
    assert np.allclose(np.arccos(directions[seen, 2]), angle[seen], atol=1e-3)
    assert np.isnan(directions[~seen]).all()


def test_rays_turn_with_the_pose_and_begin_at_the_centre():
    camera, pose = bent_camera("OPENCV"), poses(3)[1]
    rays = camera_rays(camera, pose, 30, 22)
    directions_cam = rays.directions.numpy() @ pose[:, :3]
    assert np.allclose(directions_cam.reshape(22, 30, 3), camera_directions(camera, 30, 22), atol=1e-6)
    assert np.allclose(rays.origins.numpy(), pose[:, 3], atol=1e-6)
    assert set(rays.image_slots.tolist()) == {-1}


def test_focal_lengths_by_model():
    assert focal_lengths(bent_camera("SIMPLE_RADIAL")) == (55.0,)
    assert focal_lengths(bent_camera("OPENCV")) == (55.0, 55.0)
    assert focal_lengths(bent_camera("EQUIRECTANGULAR")) == ()


@pytest.mark.parametrize("model", MODELS)
def test_parameters_that_lack_are_a_sentence_and_never_reach_pycolmap(model: str):
    for params in ((), bent_camera(model).params[:-1], (*bent_camera(model).params, 1.0)):
        with pytest.raises(UserError, match=f"the model '{model}' and {len(params)} parameters; this model has"):
            focal_lengths(Camera(model, 60, 44, params))


def test_a_model_that_nobody_knows_is_a_sentence():
    with pytest.raises(UserError, match="COLMAP knows no such model"):
        focal_lengths(Camera("TELESCOPE", 60, 44, (1.0,)))
