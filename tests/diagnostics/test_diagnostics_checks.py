"""Every check finds the fault that was planted, and says nothing of a healthy room."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from blocknerf.core.config.load import load_config
from blocknerf.core.seeds import generator
from blocknerf.core.types import Appearance, Exposures, RayBatch
from blocknerf.diagnostics.coverage import labels_of
from blocknerf.diagnostics.data import check_batch, check_exposures, check_pictures, check_poses
from blocknerf.diagnostics.debugger import BlockNeRFDebugger
from blocknerf.diagnostics.gradients import TOO_LARGE
from blocknerf.diagnostics.memory import measure_phases
from blocknerf.diagnostics.ray import trace_ray
from blocknerf.diagnostics.tiny import tiny_config
from blocknerf.kernels.compositing.ops import render_weights
from blocknerf.models.block_nerf import BlockNeRF
from blocknerf.scene.readers.read import read_scene
from blocknerf.scene.sampler import PixelSampler
from blocknerf.scene.store import ImageStore
from blocknerf.training.block.losses.block_nerf_loss import BlockNeRFLoss
from tests.support.room import write_room


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return read_scene(write_room(tmp_path_factory.mktemp("room")), load_config(None).dataset)


@pytest.fixture(scope="module")
def store(scene, tmp_path_factory):
    return ImageStore.open(scene, 1, tmp_path_factory.mktemp("store"), progress=False)


def tiny(scene, *overrides: str):
    return tiny_config(load_config(None, overrides), scene)


def block(scene, config) -> BlockNeRF:
    ids = tuple(image.id for image in scene.images)
    stops = {image_id: 1.0 if row % 2 else -1.0 for row, image_id in enumerate(ids)}
    exposures = Exposures(1.0, (-1.0, 1.0), {}, stops)
    drives = tuple(image.drive for image in scene.images)
    model = BlockNeRF(config, (0.0, 0.0, 0.0), 4.0, ids, drives, generator(0, "block"), exposures)
    if model.poses is not None:
        model.poses.place(torch.from_numpy(scene.centers_world), 4.0)
    return model


def test_a_healthy_room_has_no_findings(scene, store):
    assert BlockNeRFDebugger({}, tiny(scene)).check_data_quality(store) == []


@pytest.mark.parametrize(
    ("plant", "found"),
    [
        (lambda b: b.rgb[3].fill_(torch.nan), "1 of 64 colours are not finite"),
        (lambda b: b.rgb[3].fill_(1.5), "instead of in \\[0, 1\\]"),
        (lambda b: b.rays.directions[5].mul_(1.1), "1 of 64 ray directions do not have unit length"),
        (lambda b: b.rays.radii[0].fill_(0), "1 of 64 cone radii"),
        (lambda b: b.rays.image_slots[0].fill_(16), "outside of the 16"),
    ],
)
def test_a_fault_in_a_batch_is_found(store, plant, found):
    batch = PixelSampler(store, store.image_ids, 64, 0).next()
    assert check_batch(batch, 16) == []
    plant(batch)
    (finding,) = [f for f in check_batch(batch, 16) if "instead" in found or "Colours lie" not in f.sentence]
    assert finding.severity == "error"
    assert re.search(found, finding.sentence)


@pytest.mark.parametrize("row", [0, 7, 15])
def test_a_camera_thrown_away_is_found_and_it_alone(scene, row):
    images = list(scene.images)
    pose = images[row].world_from_cam.copy()
    pose[:, 3] += (100, 0, 0)
    images[row] = replace(images[row], world_from_cam=pose)
    (finding,) = check_poses(images)
    assert finding.sentence.startswith(f"{images[row].name} stands")


def test_a_camera_turned_around_on_a_straight_drive_is_found(scene):
    straight = []
    for k, image in enumerate(scene.images):
        straight.append(replace(image, drive="0", world_from_cam=np.eye(4)[:3] + [[0, 0, 0, k], [0] * 4, [0] * 4]))
    assert check_poses(straight) == []
    turned = straight[9].world_from_cam.copy()
    turned[:, :3] = np.diag([-1.0, 1.0, -1.0])
    straight[9] = replace(straight[9], world_from_cam=turned)
    (finding,) = check_poses(straight)
    assert straight[9].name in finding.sentence
    assert "180 degrees" in finding.sentence


def test_an_exposure_of_ten_stops_is_found(scene):
    images = [replace(image, exposure=0.01 * 1.1 ** (k % 4)) for k, image in enumerate(scene.images)]
    assert check_exposures(images) == []
    images[4] = replace(images[4], exposure=0.01 * 2**10)
    (finding,) = check_exposures(images)
    assert finding.sentence.startswith(images[4].name)


def test_a_dark_picture_and_a_mask_that_hides_nearly_all_are_found(scene, store, monkeypatch):
    dark, hidden = store.image_ids[2], store.image_ids[9]
    rgb, valid = ImageStore.rgb, ImageStore.valid

    def masked(self, image_id, level=0):
        keep = valid(self, image_id, level).copy()
        keep.ravel()[1:] &= image_id != hidden
        return keep

    monkeypatch.setattr(ImageStore, "rgb", lambda s, i, level=0: rgb(s, i, level) // (8 if i == dark else 1))
    monkeypatch.setattr(ImageStore, "valid", masked)
    sentences = [finding.sentence for finding in check_pictures(store)]
    assert any(store.records[dark].name in line and "darker" in line for line in sentences)
    assert any(store.records[hidden].name in line and "mask" in line for line in sentences)
    assert not any(
        store.records[name].name in " ".join(sentences) for name in store.image_ids if name not in (dark, hidden)
    )


@pytest.mark.parametrize("backbone", ["hash", "mlp"])
def test_gradients_of_a_healthy_block_and_of_broken_ones(scene, store, backbone):
    config = tiny(scene, f"block_nerf.backbone={backbone}", "training.use_pose_refinement=true")
    model, debugger = block(scene, config), BlockNeRFDebugger({}, config)

    def check(factor=1.0):
        batch = PixelSampler(store, model.image_ids, 256, 0).next()
        total, _ = BlockNeRFLoss(config.training)(model, batch, generator(0, "batch"))
        return debugger.check_model_gradients(model, factor * total)

    gradients, findings = check()
    assert findings == []
    tables = {"table", "proposal"} if backbone == "hash" else set()
    assert {gradient.component for gradient in gradients} == tables | {
        "field networks",
        "appearance",
        "exposure",
        "pose",
        "visibility",
    }
    assert all(parameter.grad is None for parameter in model.parameters())

    _, exploding = check(1e8)
    assert any("field networks is large" in finding.sentence for finding in exploding)
    assert max(gradient.norm for gradient in check(1e8)[0]) > TOO_LARGE
    _, broken = check(float("nan"))
    assert {finding.severity for finding in broken} == {"error"}

    assert model.appearance is not None
    assert model.appearance.residuals is not None
    hook = model.appearance.residuals.register_hook(torch.zeros_like)
    _, dead = check()
    hook.remove()
    assert [finding.sentence.split(" is as good")[0] for finding in dead] == ["The gradient of appearance"]


@pytest.mark.parametrize("backbone", ["hash", "mlp"])
def test_the_drawn_ray_is_the_renderers(scene, store, backbone):
    config = tiny(scene, f"block_nerf.backbone={backbone}", "training.use_exposure_encoding=false")
    model = block(scene, config).eval()
    rays: RayBatch = store.rays(store.image_ids[0])[40:41]
    code = model.code_for(Appearance(store.image_ids[0]))
    assert code is not None
    trace = trace_ray(model, rays, code)
    rgb, composited = model.composite(rays, code[None], None)
    assert torch.equal(trace.weights, composited.weights[0])
    assert torch.equal(trace.pixel_rgb, rgb[0])
    again = render_weights(trace.density[None] * model.radius_m, composited.edges)
    torch.testing.assert_close(again[0], trace.weights, rtol=1e-4, atol=1e-6)
    assert float(trace.transmittance[0]) == 1
    alphas = 1 - torch.exp(-trace.density * trace.edges_m.diff())
    torch.testing.assert_close(trace.transmittance * alphas, trace.weights, rtol=1e-3, atol=1e-5)
    if backbone == "mlp":
        torch.testing.assert_close((trace.weights[:, None] * trace.rgb).sum(0), trace.pixel_rgb, rtol=1e-4, atol=1e-5)


def test_memory_counts_what_a_phase_allocates():
    held = []
    phases = [
        ("takes", lambda: held.append(torch.ones(4 << 20))),
        ("keeps", lambda: None),
        ("gives back", held.clear),
    ]
    takes, keeps, gives_back = measure_phases(phases, torch.device("cpu"))
    assert 16 << 20 <= takes.torch_peak < 17 << 20
    assert keeps.torch_peak == takes.torch_peak
    assert takes.resident_peak is None or takes.resident_peak > 16 << 20
    assert gives_back.torch_peak == takes.torch_peak


def test_a_tiny_configuration_is_tiny_and_stays_as_it_is(scene):
    config = tiny(scene, "block_nerf.backbone=mlp", "training.num_epochs=50")
    assert config.training.num_epochs == 1
    assert config.dataset.max_images == 24
    assert config.block_nerf.skip_connections == ()
    assert tiny_config(config, scene) == config
    small = tiny(scene, "dataset.batch_size=8", "training.max_steps=3")
    assert (small.dataset.batch_size, small.training.max_steps) == (8, 3)


def test_colours_of_the_coverage_map_are_named_by_what_they_stand_for():
    assert labels_of([0, 1, 2, 3, 5, 8]) == ["0", "1", "2", "3-4", "5+"]
    assert labels_of([0, 1]) == ["0+"]


def test_max_images_thins_a_capture_evenly(scene):
    thinned = read_scene(scene.root, load_config(None, ["dataset.max_images=4"]).dataset)
    assert [image.name for image in thinned.images] == [scene.images[row].name for row in (0, 5, 10, 15)]
