"""The proposal of a block of an object starts as fog that cameras outside of its cube see through."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from blocknerf.blocks.output import plan_scene
from blocknerf.core.config.load import load_config
from blocknerf.models.backbones.interface import StartsAsFog
from blocknerf.scene.store import ImageStore
from blocknerf.training.block.initial_model import initial_model, initial_rng
from blocknerf.training.block.inputs import BlockInputs
from tests.support.scene_builders import blender_scene
from tests.support.small_field import SMALL_HASH


def starting_log_density(root: Path, radius_m: float | None, *overrides: str) -> tuple[torch.Tensor, float]:
    """Of the proposal of a block of that radius (None: as planned), and the radius."""
    config = load_config(None, [*SMALL_HASH, "block_manager.max_blocks=1", *overrides])
    settings, scene, plan = plan_scene(config, root, root / "out")
    spec = plan.blocks[0] if radius_m is None else replace(plan.blocks[0], radius_m=radius_m)
    store = ImageStore.open(scene, 1, root / "store", progress=False)
    inputs = BlockInputs(settings, spec, store, plan.scene_hash)
    field = initial_model(inputs, "cpu", initial_rng(inputs)).field
    assert isinstance(field, StartsAsFog)
    return field.sparse_tables()["proposal"].rows.detach(), spec.radius_m


@pytest.mark.parametrize("radius_m", [None, 1.0, 2.0])
def test_the_way_to_an_object_is_one_optical_depth(tmp_path: Path, radius_m: float | None):
    """The builder's cameras stand 4 m and a little from the origin, at which they look."""
    blender_scene(tmp_path, train=12, test=4)
    rows, radius = starting_log_density(tmp_path, radius_m, "dataset.alpha=white")
    assert radius < 3
    assert (rows == rows[0, 0, 0]).all()
    assert float(rows[0, 0, 0].exp()) * 4 / radius == pytest.approx(1, rel=0.05)


@pytest.mark.parametrize(("radius_m", "alpha"), [(8.0, "white"), (1.0, "mask")])
def test_cameras_in_the_cube_and_photographs_keep_one_per_radius(tmp_path: Path, radius_m: float, alpha: str):
    blender_scene(tmp_path, train=12, test=4)
    rows, _ = starting_log_density(tmp_path, radius_m, f"dataset.alpha={alpha}")
    assert (rows == 0).all()
