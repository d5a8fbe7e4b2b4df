"""Which state of its blocks a city shows, and that the best in validation can be resumed from."""

import json
from pathlib import Path

import pytest
import torch

from blocknerf.blocks.output import load_output, plan_scene
from blocknerf.city.city import City
from blocknerf.core.config.load import load_config
from blocknerf.core.config.training import TrainingConfig
from blocknerf.core.errors import UserError
from blocknerf.models.block_file import read_block, read_block_meta
from blocknerf.training.block.optimizer import BlockOptimizer
from blocknerf.training.launchers.sequential import SequentialLauncher
from blocknerf.training.run.resume import resume_from_state
from blocknerf.training.run.run import Run
from blocknerf.training.train_blocks import train_blocks
from tests.support.room import write_room
from tests.support.small_field import SMALL_HASH

SMALL = (
    "block_manager.block_size=2.5",
    "block_manager.max_blocks=4",
    "block_manager.min_images_per_block=6",
    *SMALL_HASH,
    "dataset.batch_size=128",
    "dataset.use_depth=true",
    "training.rgb_l1_share=0.1",
    "training.rgb_ssim_share=0.1",
    "training.max_steps=30",
    "training.use_visibility_network=false",
    "validation.val_freq=0.1",
    "validation.save_freq=0.2",
    "validation.num_val_images=1",
    "logging.use_tensorboard=false",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    folder = tmp_path_factory.mktemp("states")
    out = folder / "out"
    run = Run(*plan_scene(load_config(None, SMALL), write_room(folder / "room", depth=True), out), out)
    train_blocks(run, launcher=SequentialLauncher())
    return run


def _weights_of(out: Path, block_id: str, state: str) -> dict[str, torch.Tensor]:
    return dict(City.open(out, state=state).model(block_id).state_dict())  # pyright: ignore[reportAttributeAccessIssue]


def _same(first_weights: dict[str, torch.Tensor], second_weights: dict[str, torch.Tensor]) -> bool:
    return all(
        torch.equal(tensor, second_weights[name]) for name, tensor in first_weights.items() if name in second_weights
    )


def test_best_latest_and_a_file_each_show_the_weights_of_that_state(run):
    out, (first, second) = run.output_dir, [block.id for block in run.plan.blocks][:2]
    kept = sorted(run.checkpoint_folder(first).glob("step_*.json"))[0]
    for state, where in (("best", "best"), ("latest", "latest"), (str(kept), kept.stem)):
        saved = read_block(run.block_folder(first), where).to_render().tensors
        loaded = _weights_of(out, first, state)
        assert {name for name in saved if name in loaded}
        assert _same(saved, loaded)
    assert not _same(_weights_of(out, first, str(kept)), _weights_of(out, first, "latest"))
    assert _same(_weights_of(out, second, str(kept)), _weights_of(out, second, "latest"))


def test_the_best_state_is_that_of_the_best_validation_and_is_resumed_from(run, tmp_path):
    (block, *_) = run.plan.blocks
    lines = (run.block_folder(block.id) / "metrics.jsonl").read_text().splitlines()
    validated = {row["step"]: row["validation/psnr"] for row in map(json.loads, lines) if "validation/psnr" in row}
    best = read_block_meta(run.checkpoint_folder(block.id), "best")
    assert best.step == max(validated, key=validated.__getitem__)
    assert best.best_psnr == pytest.approx(max(validated.values()), abs=1e-4)

    other = Run(*plan_scene(run.config, run.scene.root, tmp_path), tmp_path)
    resume_from_state(other, run.checkpoint_folder(block.id) / "best.json", (block.id,))
    train_blocks(other, (block.id,), resume=True, launcher=SequentialLauncher())
    assert _same(_weights_of(tmp_path, block.id, "latest"), _weights_of(run.output_dir, block.id, "latest"))


def test_terms_of_the_loss_are_validated_by_name(run):
    lines = (run.block_folder(run.plan.blocks[0].id) / "metrics.jsonl").read_text().splitlines()
    rows = [row for row in map(json.loads, lines) if "validation/loss/mse" in row]
    assert len(rows) > 1
    for row in rows:
        assert {"validation/loss/rgb", "validation/loss/mse", "validation/loss/depth"} <= row.keys()
        assert 0 < row["validation/loss/mse"] != row["validation/loss/rgb"]
    psnr = {row["step"]: row["validation/psnr"] for row in map(json.loads, lines) if "validation/psnr" in row}
    for row in rows:  # one picture, whose colours are all within [0, 1]
        assert -10 * torch.tensor(row["validation/loss/mse"]).log10() == pytest.approx(psnr[row["step"]], abs=0.01)


@pytest.mark.parametrize(
    ("state", "sentence"),
    [("worst", "is no state"), ("blocks/000/latest.safetensors", "is no state"), ("plan.json", "plan.json")],
)
def test_what_is_no_state_is_refused_in_a_sentence(run, state, sentence):
    with pytest.raises(UserError, match=sentence):
        City.open(run.output_dir, state=str(run.output_dir / state) if "." in state else state)


def test_a_city_that_was_never_validated_has_no_best_state(tmp_path):
    config = load_config(
        None, [*SMALL, "validation.num_val_images=0", "training.max_steps=2", "dataset.use_depth=false"]
    )
    out = tmp_path / "out"
    train_blocks(
        Run(*plan_scene(config, write_room(tmp_path / "room"), out), out), ("000",), launcher=SequentialLauncher()
    )
    assert load_output(out)
    with pytest.raises(UserError, match="none was validated"):
        City.open(out, state="best")


def test_each_group_is_clipped_by_itself(run):
    model = City.open(run.output_dir).model("000")
    components = model.components()  # pyright: ignore[reportAttributeAccessIssue]
    optimizer = BlockOptimizer(model, TrainingConfig(gradient_clip_norm=0.5))  # pyright: ignore[reportArgumentType]
    for parameter in (parameter for parameters in components.values() for parameter in parameters):
        parameter.grad = torch.full_like(parameter, 100.0)
    optimizer.step(dict.fromkeys(components, 0.0))
    for parameters in components.values():
        first_moments = torch.cat([optimizer.dense[parameter].first.flatten() for parameter in parameters])
        assert float(first_moments.norm()) == pytest.approx(0.5 * (1 - 0.9), rel=1e-4)
