"""A city whose blocks stand on another device: the pictures of the processor, and nothing that stayed behind."""

import sys
from functools import partial
from pathlib import Path

import pytest
import torch

from blocknerf.blocks.output import plan_scene
from blocknerf.city.city import City, load_block
from blocknerf.cli.align import align
from blocknerf.cli.evaluate import evaluate
from blocknerf.cli.export_depth import export_depth
from blocknerf.cli.export_orthophoto import export_orthophoto
from blocknerf.cli.render import render
from blocknerf.core.config.load import load_config
from blocknerf.core.types import RayBatch
from blocknerf.evaluation.evaluate import evaluate as run_evaluation
from blocknerf.kernels.registry import use_backend
from blocknerf.models.block_nerf import BlockNeRF
from blocknerf.training.one_block import Run
from blocknerf.training.run import train_blocks

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from room import write_room
from second_device import SecondDevice, There
from small_field import SMALL_HASH

SMALL = (
    "block_manager.block_size=2.5",
    "block_manager.overlap_ratio=0.5",
    "block_manager.min_images_per_block=6",
    "block_nerf.num_samples_coarse=8",
    "block_nerf.num_samples_fine=8",
    "dataset.batch_size=64",
    "training.max_steps=10",
    "training.use_pose_refinement=true",
    "validation.num_val_images=0",
    "logging.use_tensorboard=false",
)
MLP = (
    "block_nerf.backbone=mlp",
    "block_nerf.num_layers=3",
    "block_nerf.skip_connections=[1]",
    "block_nerf.hidden_dim=16",
    "training.rgb_ssim_share=0",
)


@pytest.fixture(scope="module", params=[SMALL_HASH, MLP], ids=["hash", "mlp"])
def out(request, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("city")
    config = load_config(None, [*SMALL, *request.param])
    train_blocks(Run(*plan_scene(config, write_room(folder / "room"), folder / "out"), folder / "out"), jobs=1)
    return folder / "out"


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
        expected, weights = city.render(rays, center), city.seen_weights(rays, center)
        with SecondDevice():
            away = City.open(out, load=partial(load_block, device="meta"))
            for block_id in weights:
                model = away.model(block_id)
                assert isinstance(model, BlockNeRF)
                assert all(isinstance(parameter.data, There) for parameter in model.parameters())
            shown, there = away.render(rays, center), away.seen_weights(rays, center)
    assert len(weights) > 1
    assert there == pytest.approx(weights, rel=1e-4)
    for name in ("rgb", "opacity", "distance_m"):
        torch.testing.assert_close(getattr(shown, name), getattr(expected, name), rtol=1e-4, atol=1e-5)


def test_points_and_poses_are_those_of_the_processor(out):
    with use_backend("torch"):
        city = City.open(out)
        block_id, (rays, center) = city.ids[0], _rays(city)
        model = city.model(block_id)
        assert isinstance(model, BlockNeRF)
        drive = model.drives[0]
        points = center.float() + rays.directions
        expected = model.query_points(points, rays.directions), model.refined_rays(rays, drive=drive)
        codes = torch.zeros(len(rays), len(model.code_for(None, None)))  # pyright: ignore[reportArgumentType]
        rgb, composited = model.composite(rays, codes, None)
        with SecondDevice():
            away = load_block_away(out, block_id)
            there_rgb, there = away.composite(rays, codes, None)
            found = away.query_points(points, rays.directions), away.refined_rays(rays, drive=drive)
    torch.testing.assert_close(there_rgb, rgb, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(there.weights, composited.weights, rtol=1e-3, atol=1e-4)
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
}


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_that_renders_runs_there(out, command, monkeypatch):
    monkeypatch.setattr("blocknerf.city.city.devices_of", lambda name: ("meta",))
    with use_backend("torch"), SecondDevice():
        COMMANDS[command](out)


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
