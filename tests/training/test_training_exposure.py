"""A room photographed at exposures that vary: the block learns what exposure does, and `exposure_stops` brighten."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blocknerf.blocks.output import plan_scene
from blocknerf.cli.render import render
from blocknerf.core.config.load import load_config
from blocknerf.core.errors import UserError
from blocknerf.scene.readers.read import read_scene
from blocknerf.training.launchers.sequential import SequentialLauncher
from blocknerf.training.run.run import Run
from blocknerf.training.train_blocks import train_blocks
from tests.support.room import write_room

SMALL = (
    "block_manager.max_blocks=1",
    "block_nerf.hash_grid.num_levels=4",
    "block_nerf.hash_grid.log2_table_rows=12",
    "block_nerf.hash_grid.finest_resolution=64",
    "block_nerf.proposal_resolution=24",
    "block_nerf.num_samples_coarse=24",
    "block_nerf.num_samples_fine=16",
    "block_nerf.hidden_dim=32",
    "dataset.batch_size=512",
    "training.num_epochs=10",
    "training.lr_warmup_steps=10",
    "training.use_appearance_embedding=false",
    "validation.num_val_images=0",
    "logging.use_tensorboard=false",
)
STOPS = (-1.0, -0.5, 0.0, 0.5, 1.0)


@pytest.fixture(scope="module")
def city(tmp_path_factory) -> Path:
    """The trained city of a room whose pictures are 2^-1 to 2^1 times as bright; transforms.json tells which."""
    folder = write_room(tmp_path_factory.mktemp("room"))
    tree = json.loads((folder / "transforms.json").read_text())
    rng = np.random.default_rng(5)
    for frame in tree["frames"]:
        gain = 2 ** rng.uniform(-1, 1)
        path = folder / frame["file_path"]
        pixels = np.asarray(Image.open(path)).astype(np.float64) / 255
        Image.fromarray((255 * (1 - np.exp(-0.8 * gain * pixels))).astype(np.uint8)).save(path)
        frame["exposure"] = 0.002 * gain
    (folder / "transforms.json").write_text(json.dumps(tree))
    out = tmp_path_factory.mktemp("out")
    run = Run(*plan_scene(load_config(None, SMALL), folder, out), out)
    train_blocks(run, launcher=SequentialLauncher())
    return out


def mean_brightness(city: Path, tmp_path: Path, **options) -> float:
    render(city, path="test", video=tmp_path / "x.mp4", **options)
    return float(np.mean([np.asarray(Image.open(path)).mean() for path in sorted((tmp_path / "x").glob("*.png"))]))


def test_more_stops_are_brighter(city, tmp_path):
    levels = [mean_brightness(city, tmp_path, exposure=stops) for stops in STOPS]
    assert bool((np.diff(levels) > 3).all()), levels
    assert levels[2] == mean_brightness(city, tmp_path)


def test_an_image_is_shown_as_it_was_exposed(city, tmp_path):
    from blocknerf.blocks.output import load_output, open_scene

    config, plan = load_output(city)
    scene = open_scene(city, config.dataset)
    trained = [image for image in scene.images if image.id in plan.blocks[0].train_images]
    dark, bright = (f(trained, key=lambda image: image.exposure or 0) for f in (min, max))
    levels = [
        mean_brightness(city, tmp_path, appearance=f"{dark.name}:{bright.name}", share=share)
        for share in (0.0, 0.5, 1.0)
    ]
    assert bool((np.diff(levels) > 3).all()), levels


def test_a_city_that_knows_no_exposure_says_so(city, tmp_path):
    meta_path = city / "blocks" / "000" / "latest.json"
    before = meta_path.read_text()
    meta = json.loads(before)
    meta["model"]["exposures"] = None
    del meta["checksum"]
    meta_path.write_text(json.dumps(meta))
    try:
        with pytest.raises(UserError, match="--exposure has nothing to move"):
            render(city, exposure=1.0)
    finally:
        meta_path.write_text(before)
    with pytest.raises(UserError, match="finite number of stops"):
        render(city, exposure=float("nan"))


def test_a_damaged_exposure_names_its_frame(tmp_path):
    folder = write_room(tmp_path, images=3)
    tree = json.loads((folder / "transforms.json").read_text())
    for value, message in ((0, "must be more than 0"), (-1, "must be more than 0"), ("f/8", "must be a number")):
        tree["frames"][1]["exposure"] = value
        (folder / "transforms.json").write_text(json.dumps(tree))
        with pytest.raises(UserError, match=f"frame 1: 'exposure' {message}"):
            read_scene(folder, load_config(None).dataset)
