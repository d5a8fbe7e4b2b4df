"""A backbone that this file alone defines draws a disc as rasterisers do: by projecting its centre into the camera.

The city hands it the camera, composites it with a block that renders rays, and shows it in the ordinary pictures.
"""

import math
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from torch import nn

from blocknerf.blocks.plan import BlockSpec, Plan
from blocknerf.city.city import City
from blocknerf.city.manifest import block_folder, manifest_of, write_manifest
from blocknerf.core.camera import Camera
from blocknerf.core.config.backbone import BackboneConfig, StepCost, register_backbone
from blocknerf.core.config.load import load_config
from blocknerf.core.errors import UserError
from blocknerf.core.types import Appearance, RayBatch
from blocknerf.evaluation.evaluate import evaluate_city
from blocknerf.evaluation.protocols import parse_protocols
from blocknerf.export.paths import View, view_rays
from blocknerf.export.render import render_views
from blocknerf.models.backbones.interface import Backbone, ViewsBackbone
from blocknerf.models.block_file import BlockFile, write_block
from blocknerf.models.block_nerf import BlockNeRF
from blocknerf.models.fit import fit_code
from blocknerf.models.poses import moved_rays
from blocknerf.scene.rays import camera_rays
from blocknerf.scene.scene import ImageRecord
from blocknerf.viewer import drawing
from blocknerf.viewer.drawing import draw
from blocknerf.viewer.render_request import RenderRequest, Viewpoint
from tests.support.backbones import registrations_undone
from tests.support.block_meta import meta_of
from tests.support.small_field import SMALL_HASH

RADIUS_M, DISC_RADIUS = 4.0, 0.5  # the second in block radii
CENTER_M = (1.0, -0.5, 2.0)  # of the block
DISC_M = (0.3, 0.4, 8.0)
COLOUR = (0.9, 0.3, 0.1)
WIDTH, HEIGHT = 24, 16


class DiscField(nn.Module):
    """A disc that always faces the camera, of one colour that follows the code."""

    rays_at_once, recomputes, stands_with_encoder = 4096, False, False

    def __init__(self, code_dim: int):
        super().__init__()
        self.center = nn.Parameter(torch.zeros(3))
        self.colour = nn.Linear(1 + code_dim, 3)
        self.seen = []

    def rasterize(self, rays, code):
        self.seen.append(rays.view)
        return drawn(rays, self.center, DISC_RADIUS, self._rgb(code))

    def _rgb(self, code):
        one = torch.ones(1)
        return self.colour(one if code is None else torch.cat([one, code])).sigmoid()

    def query(self, points, directions, codes):
        raise NotImplementedError

    def density_at(self, points):
        raise NotImplementedError

    def set_encoding_progress(self, share: float) -> None:
        """There are no levels."""

    def move(self, part, device) -> None:
        self.to(device)

    def sparse_tables(self):
        return {}

    def networks(self):
        return list(self.parameters())

    def code_layer(self):
        return self.colour


def drawn(rays: RayBatch, center: torch.Tensor, radius: float, rgb: torch.Tensor):
    """By the camera alone: pixel centres of the view within the projected circle, at the depth of its centre."""
    view = rays.view
    pose, (fx, fy, cx, cy) = view.world_from_cam.to(center), view.camera.params
    x, y, z = (pose[:, :3].T @ (center - pose[:, 3])).unbind()
    columns, rows = view.pixels % view.width + 0.5, view.pixels // view.width + 0.5
    u, v = columns * view.camera.width / view.width, rows * view.camera.height / view.height
    away = torch.stack([(u - cx) / fx * z - x, (v - cy) / fy * z - y]).norm(dim=0)
    opacity = ((away <= radius) & (z > 0)).float()
    slant = torch.stack([(u - cx) / fx, (v - cy) / fy, torch.ones_like(u)]).norm(dim=0)
    return opacity[:, None] * rgb, opacity, z * slant


class DiscConfig(BackboneConfig):
    """`backbone: disc`."""

    backbone: Literal["disc"] = "disc"
    renders = "views"

    def field(self, code_dim, spacing, white_background, rng):
        return DiscField(code_dim)

    def cost(self, code_dim: int) -> StepCost:
        return StepCost(6, 100, 1e6)


@pytest.fixture(autouse=True)
def registered():
    with registrations_undone():
        register_backbone(DiscConfig)
        yield


def disc(*overrides: str) -> BlockNeRF:
    settings = ("block_nerf.backbone=disc", "training.use_visibility_network=false", "block_manager.blending=distance")
    codes = ("appearance_embedding.embedding_dim=2", "training.use_exposure_encoding=false")
    model = BlockNeRF(
        load_config(None, (*settings, *codes, *overrides)), CENTER_M, RADIUS_M, ("a", "b"), ("noon", "dusk")
    )
    with torch.no_grad():
        model.field.center.copy_(model.to_block(torch.tensor([DISC_M]))[0])
        model.field.colour.weight.zero_()
        model.field.colour.weight[:, 1:] = 1.0
        model.field.colour.bias.copy_(torch.logit(torch.tensor(COLOUR)))
        if model.appearance is not None:
            model.appearance.residuals[0] += 0.5
            model.appearance.residuals[1] -= 0.5
    return model


def fog() -> BlockNeRF:
    """A block that renders rays, with nothing in it but its first values."""
    settings = (*SMALL_HASH, "training.use_visibility_network=false", "block_manager.blending=distance")
    return BlockNeRF(
        load_config(None, settings), (0.0, 0.0, 4.0), 4.0, ("c",), ("noon",), torch.Generator().manual_seed(0)
    )


CAMERA = Camera("PINHOLE", 48, 32, (40.0, 40.0, 24.0, 16.0))
POSE = np.eye(4)[:3]


@pytest.fixture
def city(tmp_path) -> City:
    specs = (
        BlockSpec("disc", CENTER_M, RADIUS_M, (1.0, 0.0, 0.0), (), ()),
        BlockSpec("fog", (0.0, 0.0, 4.0), 4.0, (-1.3, 0.0, 0.0), (), ()),
    )
    models = {"disc": disc(), "fog": fog()}
    write_manifest(tmp_path, manifest_of(Plan("scene", "c", specs), models["fog"].config.block_manager))
    for name, model in models.items():
        block = BlockFile(meta_of(name, model.description()), model.state_dict())
        write_block(block_folder(tmp_path, name), "latest", block)
    return City.open(tmp_path)


def analytic(rays: RayBatch, rgb) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The disc in world metres, from the rays alone: where each meets the plane of the disc across the axis."""
    axis = torch.tensor([0.0, 0.0, 1.0])
    along = torch.tensor(DISC_M) @ axis / (rays.directions @ axis)
    inside = (along[:, None] * rays.directions - torch.tensor(DISC_M)).norm(dim=-1) <= DISC_RADIUS * RADIUS_M
    return inside.float()[:, None] * rgb, inside.float(), along


def test_a_backbone_of_views_is_none_of_rays():
    field = disc().field
    assert isinstance(field, ViewsBackbone)
    assert not isinstance(field, Backbone)
    assert not isinstance(fog().field, ViewsBackbone)


def test_the_picture_of_the_city_is_the_analytic_one_beside_a_block_of_rays(city):
    rays, center = camera_rays(CAMERA, POSE, WIDTH, HEIGHT), torch.zeros(3, dtype=torch.float64)
    weights = city.weights(center)
    assert min(weights.values()) > 0.1
    layers = {layer.block_id: layer for layer in city.layers(rays, center, Appearance(drive="noon"))}
    code = city.code_for("disc", Appearance(drive="noon"))
    rgb, opacity, distance_m = analytic(rays, torch.sigmoid(torch.logit(torch.tensor(COLOUR)) + code.sum()))
    assert 0 < opacity.mean() < 0.5
    drawn = layers["disc"].picture
    torch.testing.assert_close(drawn.rgb, rgb)
    assert torch.equal(drawn.opacity, opacity)
    torch.testing.assert_close(drawn.distance_m[opacity > 0], distance_m[opacity > 0])
    picture = city.render(rays, center, Appearance(drive="noon"))
    expected = weights["disc"] * rgb + weights["fog"] * layers["fog"].picture.rgb
    torch.testing.assert_close(picture.rgb, expected, atol=1e-6, rtol=1e-5)
    alone = replace(rays, view=None)
    assert torch.equal(city.model("fog").render(alone).rgb, city.model("fog").render(rays).rgb)  # rays as ever


def test_the_camera_comes_whole_with_its_pose_in_block_units_and_the_tile(city):
    rays = camera_rays(CAMERA, POSE, WIDTH, HEIGHT)
    whole = city.model("disc").render(rays)
    rows = torch.arange(3 * WIDTH + 5, 9 * WIDTH)
    part = city.model("disc").render(rays[rows])
    assert torch.equal(part.rgb, whole.rgb[rows])
    first, second = city.model("disc").field.seen[-2:]
    assert first.camera == CAMERA
    assert first.tile == (0, 0, WIDTH, HEIGHT)
    assert second.tile == (0, 3, WIDTH, 6)
    assert rays[torch.tensor([WIDTH + 2, 3 * WIDTH + 1])].view.tile == (1, 1, 2, 3)
    np.testing.assert_allclose(first.world_from_cam[:, 3], -np.array(CENTER_M) / RADIUS_M)


def test_a_frame_of_other_proportions_is_a_tile_of_the_covering_picture(city):
    view = View(CAMERA, POSE, 16, 16)
    rays = view_rays(view)
    assert rays.view.tile == (4, 0, 16, 16)
    (frame,) = render_views(city.with_blending(city.manifest, ["disc"]), [view], Appearance(drive="noon"))
    code = city.code_for("disc", Appearance(drive="noon"))
    rgb, _, _ = analytic(rays, torch.sigmoid(torch.logit(torch.tensor(COLOUR)) + code.sum()))
    torch.testing.assert_close(frame.reshape(-1, 3), rgb)


def test_a_camera_that_moves_takes_its_view_along(city):
    rays = camera_rays(CAMERA, POSE, WIDTH, HEIGHT)
    motion = torch.cat([torch.eye(3), torch.tensor([[0.5], [0.2], [-1.0]])], 1).double()
    moved = moved_rays(rays, motion)
    torch.testing.assert_close(moved.view.world_from_cam[:, 3], motion[:, 3])
    stood = camera_rays(CAMERA, motion.numpy(), WIDTH, HEIGHT)
    assert torch.equal(city.model("disc").render(moved).rgb, city.model("disc").render(stood).rgb)


def test_the_viewer_draws_it_part_by_part(city, monkeypatch):
    monkeypatch.setattr(drawing, "RAYS_AT_ONCE", 100)  # parts that are no whole rows
    viewpoint = Viewpoint(POSE, 2 * math.atan(0.4), 1.5)
    request = RenderRequest(viewpoint, left_out=frozenset(["fog"]), appearance=Appearance(drive="noon"))
    drawn = draw(city, None, request, WIDTH, lambda: True)
    rays = camera_rays(viewpoint.camera(WIDTH), POSE, WIDTH, HEIGHT)
    expected = city.render(rays, torch.zeros(3, dtype=torch.float64), Appearance(drive="noon"), only="disc")
    np.testing.assert_array_equal(drawn.rgb.reshape(-1, 3), (255 * expected.rgb).round().byte().numpy())


class Album:
    """One photograph that shows the disc in the look of dusk."""

    def __init__(self, rgb):
        self.picture = rgb

    def size(self, image_id):
        return HEIGHT, WIDTH

    def rgb(self, image_id):
        return self.picture

    def valid(self, image_id):
        return np.ones((HEIGHT, WIDTH), bool)

    reached = valid

    def rays(self, image_id):
        return camera_rays(CAMERA, POSE, WIDTH, HEIGHT)


def test_it_is_judged_and_its_code_is_fitted(city, tmp_path):
    alone = city.with_blending(city.manifest, ["disc"])
    rays = camera_rays(CAMERA, POSE, WIDTH, HEIGHT)
    truth = city.model("disc").render(rays, city.code_for("disc", Appearance("b"))).rgb
    album = Album((255 * truth).round().byte().reshape(HEIGHT, WIDTH, 3).numpy())
    image = ImageRecord("x", "x.png", Path("x.png"), "0", POSE, "noon")
    metrics = evaluate_city(alone, album, [image], tmp_path / "report", protocols=parse_protocols("plain,half_image"))
    assert metrics["protocols"]["half_image"]["gain_db"] > 1
    start, other = (city.code_for("disc", Appearance(name)) for name in "ab")
    fitted = fit_code(city.model("disc"), rays, truth, start, torch.Generator().manual_seed(0), 100)
    assert float((fitted - other).norm()) < 0.5 * float((start - other).norm())


def test_what_it_cannot_do_is_said(city):
    model, rays = city.model("disc"), camera_rays(CAMERA, POSE, WIDTH, HEIGHT)
    with pytest.raises(UserError, match="'disc' .* these rays belong to none"):
        model.render(replace(rays, view=None))
    with pytest.raises(UserError, match="'disc' .* no samples along single rays"):
        model.composite(rays, None, None)
