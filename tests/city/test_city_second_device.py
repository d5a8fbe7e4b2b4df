"""A city whose blocks stand on another device: the pictures of the processor, and nothing that stayed behind."""

import json
from functools import partial
from itertools import product
from pathlib import Path
from typing import get_args

import pytest
import torch

from blocknerf.blocks.output import plan_scene
from blocknerf.city.city import City
from blocknerf.cli.align import align
from blocknerf.cli.evaluate import evaluate
from blocknerf.cli.export_depth import export_depth
from blocknerf.cli.export_mesh import export_mesh
from blocknerf.cli.export_orthophoto import export_orthophoto
from blocknerf.cli.export_points import export_points
from blocknerf.cli.export_splats import export_splats
from blocknerf.cli.inspect import inspect
from blocknerf.cli.render import render
from blocknerf.core.config.load import load_config
from blocknerf.core.types import RayBatch
from blocknerf.evaluation.evaluate import evaluate as run_evaluation
from blocknerf.export.points import Agreement
from blocknerf.kernels.registry import use_backend
from blocknerf.models.block_nerf import BlockNeRF, load_block
from blocknerf.training.launchers.sequential import SequentialLauncher
from blocknerf.training.run.run import Run
from blocknerf.training.train_blocks import train_blocks
from blocknerf.viewer.city_watcher import CityWatcher
from blocknerf.viewer.drawing import draw
from blocknerf.viewer.map import first_view
from blocknerf.viewer.render_request import Kind, RenderRequest, blendings
from tests.support.room import write_room
from tests.support.second_device import DeviceTensor, SecondDevice
from tests.support.small_field import SMALL_HASH, SMALL_MLP

SMALL = (
    "block_manager.block_size=2.5",
    "block_manager.overlap_ratio=0.5",
    "block_manager.min_images_per_block=6",
    "dataset.test_every=16",
    "block_nerf.num_samples_coarse=8",
    "block_nerf.num_samples_fine=8",
    "dataset.batch_size=64",
    "training.max_steps=10",
    "training.use_pose_refinement=true",
    "validation.num_val_images=0",
    "logging.use_tensorboard=false",
)
MLP = (*SMALL_MLP, "training.rgb_ssim_share=0")


@pytest.fixture(scope="module", params=[SMALL_HASH, MLP], ids=["hash", "mlp"])
def out(request, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("city")
    config, room = load_config(None, [*request.param, *SMALL]), write_room(folder / "room", width=24, height=18)
    train_blocks(Run(*plan_scene(config, room, folder / "out"), folder / "out"), launcher=SequentialLauncher())
    return folder / "out"


@pytest.fixture(autouse=True)
def in_a_moment(monkeypatch):
    """Codes and poses of test images are fitted in few steps, and points of a fog count although nothing is sure."""
    for name in ("CODE_STEPS", "POSE_STEPS"):
        monkeypatch.setattr(f"blocknerf.evaluation.views.{name}", 4)
    monkeypatch.setattr("blocknerf.export.points.Agreement", partial(Agreement, spread_share=float("inf")))


def _rays(city: City) -> tuple[RayBatch, torch.Tensor]:
    """From between the two nearest blocks, so that both make the picture."""
    center = city.anchors[:2].mean(0)
    directions = torch.nn.functional.normalize(torch.randn(40, 3, generator=torch.Generator().manual_seed(0)), dim=-1)
    origins = center.float().expand(40, 3).clone()
    return RayBatch(origins, directions, torch.full((40,), -1), torch.full((40,), 1e-3)), center


def test_pictures_are_those_of_the_processor(out):
    with use_backend("torch"):
        city = City.open(out)
        rays, center = _rays(city)
        expected, weights = city.render(rays, center), city.block_weights(rays, center)
        with SecondDevice():
            away = City.open(out, load=partial(load_block, device="meta"))
            for block_id in weights:
                model = away.model(block_id)
                assert isinstance(model, BlockNeRF)
                assert all(isinstance(parameter.data, DeviceTensor) for parameter in model.parameters())
            picture, device_weights = away.render(rays, center), away.block_weights(rays, center)
    assert len(weights) > 1
    assert device_weights == pytest.approx(weights, rel=1e-4)
    for name in ("rgb", "opacity", "distance_m"):
        torch.testing.assert_close(getattr(picture, name), getattr(expected, name), rtol=1e-4, atol=1e-5)


def test_points_and_poses_are_those_of_the_processor(out):
    with use_backend("torch"):
        city = City.open(out)
        block_id, (rays, center) = city.ids[0], _rays(city)
        model = city.model(block_id)
        assert isinstance(model, BlockNeRF)
        drive = model.drives[0]
        points = center.float() + rays.directions
        expected = model.query_points(points, rays.directions), model.refined_rays(rays, drive=drive)
        codes = torch.zeros(len(rays), len(model.code_for()))  # pyright: ignore[reportArgumentType]
        rgb, composited = model.composite(rays, codes, None)
        with SecondDevice():
            away = load_block_away(out, block_id)
            device_rgb, device_composited = away.composite(rays, codes, None)
            found = away.query_points(points, rays.directions), away.refined_rays(rays, drive=drive)
    torch.testing.assert_close(device_rgb, rgb, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(device_composited.weights, composited.weights, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found[0].density, expected[0].density, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found[0].rgb, expected[0].rgb, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found[1].origins, expected[1].origins)
    torch.testing.assert_close(found[1].directions, expected[1].directions)


def load_block_away(out: Path, block_id: str) -> BlockNeRF:
    model = City.open(out, load=partial(load_block, device="meta")).model(block_id)
    assert isinstance(model, BlockNeRF)
    return model


COMMANDS = {
    "evaluate": lambda out: evaluate(out, protocols="plain,half_image,learned_poses"),
    "render": lambda out: render(out, "test", out / "flight.mp4", size="32x24"),
    "align": align,
    "depth": lambda out: export_depth(out, folder=out / "depth", size="32x24"),
    "orthophoto": lambda out: export_orthophoto(out, pixel=0.5),
    "mesh": lambda out: export_mesh(out, voxel=1.0, least_weight=1e-6, smallest_piece=0.0, longest_side=16),
    "points": lambda out: export_points(out, spacing=0.5, tolerance=0.99, longest_side=16),
    "splats": lambda out: export_splats(out, splats=40, steps=4, views=4, longest_side=32),
    "view": lambda out: _every_picture_of_the_viewer(CityWatcher(out, device="auto").city),
}


def _every_picture_of_the_viewer(city: City) -> None:
    for kind, blending in product(get_args(Kind), blendings(city.manifest)):
        wish = RenderRequest(first_view(city, None, 4 / 3), kind, blending)
        drawn = draw(city, None, wish, 24, lambda: True)
        assert drawn is not None
        assert drawn.rgb.shape == (18, 24, 3)


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_that_renders_runs_there(out, command, monkeypatch):
    for module in ("blocknerf.city.city", "blocknerf.runtime.devices"):
        monkeypatch.setattr(f"{module}.devices_of", lambda name: ("meta",))
    with use_backend("torch"), SecondDevice():
        COMMANDS[command](out)


def test_what_is_inspected_is_that_of_the_processor(out, monkeypatch):
    ids = City.open(out).ids
    found = {}
    with use_backend("torch"):
        for device in ("cpu", "meta"):
            monkeypatch.setattr("blocknerf.city.city.devices_of", lambda name, device=device: (device,))
            with SecondDevice():
                inspect(out, block=ids[0], seam=f"{ids[0]},{ids[1]}")
            found[device] = json.loads((out / "inspect" / "inspect.json").read_text())
    on_cpu, on_device = found["cpu"], found["meta"]
    assert [phase["phase"] for phase in on_device.pop("memory")] == [phase["phase"] for phase in on_cpu.pop("memory")]
    assert len(on_cpu["gradients"]) > 3
    assert len(on_cpu["poses"]["moved"]) > 1
    assert _numbers(on_device) == pytest.approx(_numbers(on_cpu), rel=1e-3, abs=1e-5)


def _numbers(tree, name="") -> dict[str, float]:
    """Of a JSON tree, by their way from its root."""
    if isinstance(tree, int | float):
        return {name: tree}
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return {key: number for part, below in items for key, number in _numbers(below, f"{name}/{part}").items()}


@pytest.mark.slow
def test_figures_are_those_of_the_processor(out, monkeypatch):
    with use_backend("torch"):
        expected = run_evaluation(out)
        monkeypatch.setattr("blocknerf.city.city.devices_of", lambda name: ("meta",))
        with SecondDevice():
            found = run_evaluation(out)
    assert set(found["protocols"]) == set(expected["protocols"])
    for name, protocol in expected["protocols"].items():
        assert found["protocols"][name]["psnr"] == pytest.approx(protocol["psnr"], abs=0.02), name
