"""A backbone that this file alone defines goes through the ordinary commands: plan, train, resume, render, evaluate,
inspect, export. Nothing of the package knows it."""

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pytest
import torch
from torch import nn

from blocknerf.cli.main import main
from blocknerf.core.config.backbone import BackboneConfig, StepCost, register_backbone
from blocknerf.core.config.load import load_config
from blocknerf.core.config.section import Positive
from blocknerf.models.backbones.interface import Backbone
from blocknerf.models.block_file import read_block, read_block_meta
from blocknerf.rendering.hierarchical import composite_coarse_and_fine
from tests.support.backbones import registrations_undone
from tests.support.room import write_room

EDGE = 0.03  # block radii


class FogField(nn.Module):
    """A hollow ball of fog: where it is, how wide, how thick; its colour follows the code of an image."""

    rays_at_once = 4096
    stands_with_encoder = False

    def __init__(
        self, config: "FogConfig", code_dim: int, spacing, white_background: bool, rng: torch.Generator | None
    ):
        super().__init__()
        self.spacing, self.white_background, self.recomputes = spacing, white_background, False
        start = torch.zeros(3) if rng is None else 0.1 * torch.randn(3, generator=rng)
        self.center = nn.Parameter(start)
        self.log_thickness, self.log_width = (
            nn.Parameter(torch.tensor(size).log()) for size in (config.thickness, config.width)
        )
        self.colour = nn.Linear(1 + code_dim, 3)
        nn.init.zeros_(self.colour.weight)
        nn.init.zeros_(self.colour.bias)

    def composite(self, origins, directions, radii, codes, rng):
        def field(edges):
            return self.query_intervals(origins, directions, radii, codes, edges)

        composited = composite_coarse_and_fine(
            origins, directions, self.spacing, field, rng, white_background=self.white_background
        )
        return composited.features, composited

    def query_intervals(self, origins, directions, radii, codes, edges):
        middles = (edges[:, 1:] + edges[:, :-1]) / 2
        density = self.density_at(origins[:, None] + middles[..., None] * directions[:, None])
        return density, self._rgb(len(origins), codes)[:, None].expand(*density.shape, 3)

    def query(self, points, directions, codes):
        return self.density_at(points), self._rgb(len(points), codes)

    def density_at(self, points):
        outwards = (points - self.center).norm(dim=-1) - self.log_width.exp()
        return self.log_thickness.exp() * torch.exp(-(outwards / EDGE).square())

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

    def _rgb(self, count: int, codes):
        one = torch.ones(count, 1)
        return self.colour(one if codes is None else torch.cat([one, codes], -1)).sigmoid()


class FogConfig(BackboneConfig):
    """`backbone: fog`."""

    backbone: Literal["fog"] = "fog"
    width: Positive = 1.0
    """In block radii."""
    thickness: Positive = 1.0
    """Density in the middle, per block radius, at the beginning."""

    losses: ClassVar = ("coarse_rgb",)

    def field(self, code_dim, spacing, white_background, rng):
        return FogField(self, code_dim, spacing, white_background, rng)

    def cost(self, code_dim: int) -> StepCost:
        return StepCost(8 + 3 * code_dim, 1000, 100_000.0)


@pytest.fixture(scope="module", autouse=True)
def registered():
    with registrations_undone():
        register_backbone(FogConfig)
        yield


SMALL = (
    *("block_nerf.backbone=fog", "block_nerf.width=1.5", "block_nerf.thickness=100"),
    *("block_nerf.num_samples_fine=32", "block_nerf.num_samples_coarse=64"),
    *("block_manager.block_size=2.5", "block_manager.overlap_ratio=0.5", "block_manager.min_images_per_block=6"),
    *("dataset.batch_size=256", "training.max_steps=30", "training.use_pose_refinement=true", "training.nerf_lr=0.05"),
    *("validation.num_val_images=1", "logging.use_tensorboard=false", "logging.log_freq=5"),
    "validation.save_freq=0.5",
)


LOCAL = ("--jobs", "1", "--device", "cpu", "--no-align")


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("fog")
    write_room(folder / "room")
    out = folder / "out"
    main(["plan", *capture(out, out), *SMALL])
    main(["train", *capture(out, out), *SMALL, *LOCAL])
    return out


def capture(out: Path, output_dir: Path) -> tuple[str, ...]:
    return ("--data-root", str(out.parent / "room"), "--output-dir", str(output_dir))


def test_it_is_a_backbone():
    field = load_config(None, SMALL).block_nerf.field(0, None, False, None)
    assert isinstance(field, Backbone)


def test_it_learns_and_resumes_to_the_same_bytes(out, tmp_path):
    block = out / "blocks" / "000"
    losses = [json.loads(line) for line in (block / "metrics.jsonl").read_text().splitlines()]
    rgb = [row["loss/rgb"] for row in losses if "loss/rgb" in row]
    assert rgb[-1] < rgb[0]
    kept = min(block.glob("step_*.json"))
    assert 0 < json.loads(kept.read_text())["step"] < 30
    again = tmp_path / "out"
    main(["train", *capture(out, again), *SMALL, "--blocks", "000", "--resume-from", str(kept), *LOCAL])
    assert tensors(again / "blocks" / "000") == tensors(block)


def tensors(block: Path) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in read_block(block, "latest").tensors.items()}


def test_it_is_composited_and_judged(out):
    main(["evaluate", str(out), "--protocols", "plain,half_image", "--device", "cpu"])
    figures = json.loads((out / "report" / "metrics.json").read_text())
    assert figures["protocols"]["plain"]["psnr"] > 8
    main(["render", str(out), "--path", "test", "--out", str(out / "flight.mp4"), "--size", "32x24", "--device", "cpu"])
    assert (out / "flight.mp4").stat().st_size > 0


def test_it_is_inspected(out):
    main(["inspect", str(out)])
    found = json.loads((out / "inspect" / "inspect.json").read_text())
    assert np.isfinite([gradient["norm"] for gradient in found["gradients"]]).all()


OPTIONS = {
    "points": ("--tolerance", "0.5", "--least-views", "1"),
    "mesh": ("--voxel", "0.5"),
    "orthophoto": ("--pixel", "0.5"),
}


@pytest.mark.parametrize("what", ["points", "mesh", "depth", "orthophoto"])
def test_it_is_exported(out, tmp_path, what):
    options = {
        "points": ["--tolerance", "0.5", "--least-views", "1"],
        "mesh": ["--voxel", "0.5"],
        "orthophoto": ["--pixel", "0.5"],
    }
    main(["export", what, str(out), *options.get(what, [])])


def test_debug_makes_it_small(out, tmp_path):
    main(["train", *capture(out, tmp_path / "out"), *SMALL, "--debug", "--blocks", "000", *LOCAL])
    assert load_config(tmp_path / "out" / "config.json", stored=True).block_nerf.num_samples_coarse == 16


PACKAGE = """
import torch
from torch import nn
from typing import ClassVar, Literal

from blocknerf.core.config.backbone import BackboneConfig, StepCost
from blocknerf.core.config.section import Positive
from blocknerf.rendering.hierarchical import composite_coarse_and_fine

EDGE = 0.03
"""


def install(folder: Path) -> None:
    """The same backbone as an installed package of its own, which names it by an entry point."""
    (folder / "fog_field.py").write_text(PACKAGE + inspect.getsource(FogField) + inspect.getsource(FogConfig))
    about = folder / "fog_field-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: fog-field\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[blocknerf.backbones]\nfog = fog_field:FogConfig\n")


def test_processes_that_train_blocks_find_it_by_its_entry_point(tmp_path):
    package, out = tmp_path / "package", tmp_path / "out"
    package.mkdir()
    install(package)
    write_room(tmp_path / "room")
    options = ("training.max_steps=4", "--blocks", "000,001", "--jobs", "2", "--device", "cpu", "--no-align")
    subprocess.run(
        [sys.executable, "-m", "blocknerf", "train", *capture(out, out), *SMALL, *options],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(package), *sys.path])},
        timeout=400,
        check=True,
    )
    finished = [read_block_meta(folder, "latest") for folder in (out / "blocks").iterdir()]
    assert len(finished) == 2
    assert all(meta.finished and meta.step == 4 for meta in finished)
    assert all((out / "logs" / f"{meta.block_id}.log").is_file() for meta in finished)  # each from its own process
