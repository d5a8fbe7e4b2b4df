"""What TensorBoard is shown by a training run, read back from its own files."""

import io
import json

import numpy as np
import pytest
import yaml
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from blocknerf.blocks.output import plan_scene
from blocknerf.core.config.config import Config
from blocknerf.core.config.load import load_config
from blocknerf.training.block.metrics import CLOCK
from blocknerf.training.launchers.sequential import SequentialLauncher
from blocknerf.training.run.run import Run
from blocknerf.training.train_blocks import train_blocks
from tests.support.room import write_room
from tests.support.small_field import SMALL_HASH

SMALL = (
    "block_manager.max_blocks=1",
    *SMALL_HASH,
    "dataset.batch_size=256",
    "training.max_steps=8",
    "logging.log_freq=2",
    "logging.image_log_freq=3",
    "validation.val_freq=1000",
    "validation.num_val_images=2",
)
PANELS = ("truth", "render", "distance", "error")


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Run, EventAccumulator]:
    room, out = write_room(tmp_path_factory.mktemp("room")), tmp_path_factory.mktemp("out")
    run = Run(*plan_scene(load_config(None, SMALL), room, out), out)
    train_blocks(run, launcher=SequentialLauncher())
    everything = {"scalars": 0, "images": 0, "histograms": 0, "tensors": 0}
    events = EventAccumulator(str(out / "tensorboard" / "000"), everything)
    events.Reload()
    return run, events


def _steps(events) -> list[int]:
    return [event.step for event in events]


def test_scalars_are_the_figures_of_the_plain_file(trained):
    run, events = trained
    lines = (run.output_dir / "blocks" / "000" / "metrics.jsonl").read_text().splitlines()
    written: dict[str, dict[int, float]] = {}
    for line in map(json.loads, lines):
        for name, value in line.items():
            if name != "step":
                written.setdefault(name, {})[line["step"]] = value
    assert set(events.Tags()["scalars"]) == set(written)
    for name, values in written.items():
        drawn = {event.step: event.value for event in events.Scalars(name)}
        assert drawn == pytest.approx(values), name
    terms = {"loss/rgb", "loss/distortion", "loss/interlevel", "loss/appearance", "loss/visibility"}
    assert terms | {"rate/nerf", "train/psnr", f"{CLOCK}rays_per_s", "validation/psnr"} <= set(written)
    assert "rate/pose" not in written  # poses do not learn
    assert list(written["loss/rgb"]) == [2, 4, 6, 8]


def test_pictures_are_truth_render_distance_and_error_of_a_test_image(trained):
    run, events = trained
    assert events.Tags()["images"] == [*PANELS]
    for name in PANELS:
        assert _steps(events.Images(name)) == [3, 6, 8], name
    pictures = {name: _pixels(events.Images(name)[-1].encoded_image_string) for name in PANELS}
    assert {picture.shape for picture in pictures.values()} == {(24, 32, 3)}
    test_image = next(image for image in run.scene.images if image.id == run.plan.blocks[0].test_images[0])
    photograph = np.asarray(Image.open(test_image.path).convert("RGB"))
    assert np.abs(pictures["truth"].astype(int) - photograph).max() <= 1
    apart = np.abs(pictures["render"].astype(float) - pictures["truth"]).mean(-1)
    brightness = pictures["error"].astype(float).sum(-1)
    assert brightness[apart > np.quantile(apart, 0.9)].mean() > brightness[apart < np.quantile(apart, 0.1)].mean()
    assert len(np.unique(pictures["distance"].reshape(-1, 3), axis=0)) > 10
    first = _pixels(events.Images("render")[0].encoded_image_string)
    assert not np.array_equal(first, pictures["render"])


def test_histograms_are_of_the_gradients_of_all_that_learns(trained):
    _, events = trained
    names = set(events.Tags()["histograms"])
    for part in ("table", "proposal", "appearance.residuals", "field.base.0.weight", "field.head.0.weight"):
        assert f"gradient/{part}" in names
    assert any(name.startswith("gradient/visibility.") for name in names)
    for name in names:
        assert set(_steps(events.Histograms(name))) <= {3, 6}, name
    head = events.Histograms("gradient/field.head.0.weight")
    assert _steps(head) == [3, 6]
    for event in head:
        assert event.histogram_value.min < 0 < event.histogram_value.max
        assert event.histogram_value.num > 100


def test_the_text_is_the_whole_configuration(trained):
    run, events = trained
    (text,) = events.Tensors("configuration/text_summary")
    markdown = text.tensor_proto.string_val[0].decode()
    assert markdown.startswith("```yaml\n")
    assert Config.model_validate(yaml.safe_load(markdown.removeprefix("```yaml\n").removesuffix("```"))) == run.config


def _pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
