"""Splats in the world become pictures: where they fall, how they are shaped, and that nothing depends on the frame."""

import math

import numpy as np
import pytest
import torch

from blocknerf.core.camera import Camera
from blocknerf.export.splats import Splats, transformed
from blocknerf.geometry import se3, so3
from blocknerf.geometry.similarity import Similarity
from blocknerf.kernels.registry import use_backend
from blocknerf.rendering.splatting import DILATION_PX2, Gaussians, SplatLens, project, render_splats
from blocknerf.scene.rays import pixels_of

LENS = SplatLens((30.0, 33.0), (15.0, 11.0), 32, 24)


def _made(count: int, dtype=torch.float32, degree: int = 2) -> Gaussians:
    """Before a camera at the origin that looks along z."""
    rng = torch.Generator().manual_seed(count)

    def normal(*shape):
        return torch.randn(*shape, generator=rng, dtype=torch.float64).to(dtype)

    means = normal(count, 3) * 0.8 + torch.tensor([0.0, 0.0, 4.0], dtype=dtype)
    return Gaussians(
        means, normal(count, 3) * 0.4 - 1.5, normal(count, 4), normal(count), 0.5 * normal(count, (degree + 1) ** 2, 3)
    )


def _pose(seed: int = 0) -> torch.Tensor:
    return se3.exp(torch.randn(6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 0.2).float()


@pytest.mark.parametrize(
    ("model", "params", "distortion"),
    [
        ("PINHOLE", (30.0, 33.0, 15.0, 11.0), (0.0, 0.0, 0.0, 0.0)),
        ("OPENCV", (30.0, 33.0, 15.0, 11.0, 0.1, -0.05, 0.01, -0.02), (0.1, -0.05, 0.01, -0.02)),
    ],
)
def test_centres_fall_where_colmap_puts_them(model, params, distortion):
    splats, pose = _made(50), _pose()
    lens = SplatLens(LENS.focal_xy, LENS.center_xy, 32, 24, distortion)
    points_cam = ((splats.means - pose[:, 3]) @ pose[:, :3]).double().numpy()
    expected = pixels_of(Camera(model, 32, 24, params), points_cam)
    np.testing.assert_allclose(project(splats, lens, pose)[0].numpy(), expected, atol=1e-3)


def test_a_small_splat_is_shaped_as_its_points_are():
    """The covariance of many points of the Gaussian, each seen through the pinhole, and the dilation."""
    splats = _made(3, torch.float64)
    small = Gaussians(splats.means, splats.log_scales - 4, splats.quaternions, splats.opacity_logits, splats.harmonics)
    pose = _pose().double()
    conics = project(small, LENS, pose)[1]
    rng = torch.Generator().manual_seed(4)
    for row in range(3):
        spread = torch.randn(200_000, 3, generator=rng, dtype=torch.float64) * small.log_scales[row].exp()
        points = small.means[row] + spread @ so3.from_quaternion(small.quaternions[row]).T
        x, y, z = ((points - pose[:, 3]) @ pose[:, :3]).unbind(-1)
        seen = torch.cov(torch.stack([30 * x / z, 33 * y / z])) + DILATION_PX2 * torch.eye(2)
        xx, xy, yy = conics[row]
        conic = torch.stack([torch.stack([xx, xy]), torch.stack([xy, yy])])
        torch.testing.assert_close(conic @ seen, torch.eye(2).double(), atol=0.02, rtol=0)


def test_the_picture_does_not_depend_on_the_frame_of_the_world():
    """Splats and camera moved together, sizes and colours along: places, quaternions, scales and harmonics agree."""
    splats, pose = _made(60, degree=3), _pose(1)
    motion = Similarity(2.5, so3.exp(torch.tensor([0.3, 1.0, -2.0]).double()).numpy(), np.array([1.0, -2.0, 0.5]))
    arrays = Splats(*(getattr(splats, name).numpy() for name in Splats.__slots__))
    moved = Gaussians(*(torch.from_numpy(getattr(transformed(arrays, motion), name)) for name in Splats.__slots__))
    turn = torch.from_numpy(motion.rotation).float()
    center = 2.5 * turn @ pose[:, 3] + torch.from_numpy(motion.translation).float()
    pose_there = torch.cat([turn @ pose[:, :3], center[:, None]], 1)
    before = render_splats(splats, LENS, pose, 0.1)
    assert before[3].max() > 0.5
    torch.testing.assert_close(render_splats(moved, LENS, pose_there, 0.25), before, atol=2e-4, rtol=0)


def test_the_nearer_one_covers_and_one_behind_the_camera_shows_nothing():
    splats = _made(3, degree=0)
    means = torch.tensor([[0.0, 0.0, 5.0], [0.0, 0.0, 2.0], [0.0, 0.0, -2.0]])
    colours = (torch.eye(3) - 0.5)[:, None] / math.sqrt(1 / (4 * math.pi))
    opaque = Gaussians(means, torch.zeros(3, 3), splats.quaternions, torch.full((3,), 20.0), colours)
    picture = render_splats(opaque, LENS, torch.eye(3, 4), 0.1)[:, 11, 15]
    torch.testing.assert_close(picture, torch.tensor([0.0099, 0.99, 0.0, 0.9999]), atol=1e-4, rtol=0)


def test_gradients_reach_every_parameter():
    splats, pose = _made(4, torch.float64, degree=1), _pose(2).double()
    inputs = [getattr(splats, name).detach().requires_grad_() for name in Gaussians.__slots__]

    def picture(*parts):
        return render_splats(Gaussians(*parts), SplatLens((9.0, 9.0), (4.0, 3.0), 8, 6), pose, 0.1)

    with use_backend("torch"):
        assert torch.autograd.gradcheck(picture, inputs, atol=1e-5)
