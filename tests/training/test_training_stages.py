"""Stages: what they draw from, what learns in them and what does not, where a resumed block goes on."""

import json
import math
from pathlib import Path

import pytest
import torch
from PIL import Image

from blocknerf.blocks.cost import store_bytes
from blocknerf.blocks.output import load_output, plan_scene
from blocknerf.cli.main import main
from blocknerf.core.config.load import load_config
from blocknerf.core.config.training import TrainingConfig
from blocknerf.core.errors import UserError
from blocknerf.scene.store import ImageStore
from blocknerf.training.block.inputs import BlockFolders, BlockInputs
from blocknerf.training.block.stages import ProgressiveTrainer
from blocknerf.training.block.trainer import BlockNeRFTrainer
from blocknerf.training.run.one_block import make_trainer
from blocknerf.training.run.run import Run, open_store
from tests.support.costs import estimate
from tests.support.room import write_room

FIELD = (
    "block_manager.max_blocks=1",
    "block_manager.min_images_per_block=1",
    "block_nerf.num_samples_coarse=8",
    "block_nerf.num_samples_fine=8",
    "dataset.batch_size=64",
    "training.use_pose_refinement=true",
    "logging.use_tensorboard=false",
    "validation.num_val_images=0",
)
HASH = (
    "block_nerf.hash_grid.num_levels=2",
    "block_nerf.hash_grid.log2_table_rows=8",
    "block_nerf.proposal_resolution=12",
    "block_nerf.hidden_dim=16",
)
MLP = (
    "block_nerf.num_layers=2",
    "block_nerf.skip_connections=[]",
    "block_nerf.hidden_dim=16",
    "training.rgb_ssim_share=0",
)
THREE = """training.stage_training={enable: true, stages: [
    {name: coarse, epochs: 1, resolution: 8, num_samples: 4, components: [nerf, appearance]},
    {name: fine, epochs: 1, resolution: 13, components: [appearance, pose]},
    {name: last, epochs: 1, num_samples: 12, components: [visibility]}]}"""
COMPONENTS = {
    "nerf": ("field.",),
    "appearance": ("appearance.residuals",),
    "pose": ("poses.shares",),
    "visibility": ("visibility.",),
}


@pytest.fixture(scope="module")
def room(tmp_path_factory) -> Path:
    return write_room(tmp_path_factory.mktemp("room"), images=6)


def _trainer(room: Path, out: Path, *overrides: str) -> BlockNeRFTrainer:
    run = Run(*plan_scene(load_config(None, [*FIELD, *overrides]), room, out), out)
    store = ImageStore.open(run.scene, 1, out / "store", progress=False)
    return BlockNeRFTrainer(
        BlockInputs(run.config, run.plan.blocks[0], store, run.plan.scene_hash), BlockFolders(out / "blocks" / "000")
    )


def _state(trainer: BlockNeRFTrainer) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}


def _changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    moved = [name for name, tensor in after.items() if not torch.equal(tensor, before[name])]
    found = {part for part, begins in COMPONENTS.items() if any(name.startswith(begins) for name in moved)}
    assert len(moved) == sum(name.startswith(tuple(begin for p in found for begin in COMPONENTS[p])) for name in moved)
    return found


@pytest.mark.parametrize("backbone", [HASH, MLP], ids=["hash", "mlp"])
def test_only_a_stages_components_change_and_moments_of_the_others_wait(room, tmp_path, backbone):
    trainer = _trainer(room, tmp_path, *backbone, THREE, "training.num_epochs=3", "training.weight_decay=0.1")
    wanted = [{"nerf", "appearance"}, {"appearance", "pose"}, {"visibility"}]
    ends = [round(end * trainer.total_steps) for end in trainer.batches.stages.ends]
    for number, end in enumerate(ends):
        before, moments = (
            _state(trainer),
            {name: value.clone() for name, value in trainer.stepper.optimizer.state().items()},
        )
        while trainer.step < end:
            trainer.train_step()
        assert trainer.batches.number == number
        assert _changed(before, _state(trainer)) == wanted[number]
        if number == 2:  # everything but visibility had moments before, and keeps them
            after = trainer.stepper.optimizer.state()
            assert len(moments) < len(after)
            assert all(torch.equal(value, after[name]) for name, value in moments.items())


def test_a_stage_draws_from_its_level_with_its_cones_and_samples(room, tmp_path):
    trainer = _trainer(room, tmp_path, *HASH, THREE, "training.num_epochs=3")
    levels, radii, samples = [], [], []
    for end in trainer.batches.stages.ends:
        while trainer.step < round(end * trainer.total_steps):
            trainer.train_step()
        levels.append(trainer.batches.stages.stages[trainer.batches.number].level)
        radii.append(float(trainer.sampler.next().rays.radii.mean()))
        samples.append(trainer.model.field.spacing.num_fine)
    assert levels == [2, 3, 0]  # longer sides of 8, 13 and 32 pixels: a half of a half, one of its own, all
    assert samples == [4, 8, 12]
    assert radii[0] == pytest.approx(13 / 8 * radii[1], rel=0.1)
    assert radii[1] == pytest.approx(32 / 13 * radii[2], rel=0.1)
    trainer._validate()
    assert trainer.model.field.spacing.num_fine == 8  # pictures are rendered as the finished block will be


@pytest.mark.parametrize("stop", [1, 6, 12])
def test_stopped_and_resumed_in_any_stage_is_never_stopped(room, tmp_path, stop):
    settings = (*HASH, THREE, "training.num_epochs=3", "training.max_steps=14", "dataset.num_rays_per_image=20")
    settings += ("dataset.precrop_iters=3", "training.lr_decay_steps=[1, 2]")
    whole = _trainer(room, tmp_path / "whole", *settings)
    first = _trainer(room, tmp_path / "halves", *settings)
    for _ in range(14):
        whole.train_step()
    for _ in range(stop):
        first.train_step()
    first.save()
    second = _trainer(room, tmp_path / "halves", *settings)
    assert second.resume()
    assert second.batches.number == first.batches.number
    for _ in range(14 - stop):
        second.train_step()
    assert second.sampler.state() == whole.sampler.state()
    for tensors in (_state, lambda trainer: trainer.stepper.optimizer.state()):
        one, other = tensors(whole), tensors(second)
        assert one.keys() == other.keys()
        assert [name for name in one if not torch.equal(one[name], other[name])] == []


def _progressive(stages: list[dict], **training) -> ProgressiveTrainer:
    total = sum(stage["epochs"] for stage in stages)
    tree = {"num_epochs": total, "stage_training": {"enable": True, "stages": stages}, **training}
    level_of = {16: 2, None: 0}.__getitem__
    return ProgressiveTrainer(TrainingConfig.model_validate(tree), level_of, lambda level: 16 // 4**level)


def test_stages_share_a_run_by_their_steps_and_epochs_are_counted_in_each():
    progressive = _progressive([{"name": "a", "epochs": 4, "resolution": 16}, {"name": "b", "epochs": 1}])
    assert [(stage.level, stage.steps) for stage in progressive.stages] == [(2, 4), (0, 16)]
    assert progressive.total_steps == 20
    assert [progressive.stage_at(step / 20) for step in (0, 3, 4, 19, 20)] == [0, 0, 1, 1, 1]
    shares = [progressive.epoch_share(step / 20) for step in range(21)]
    assert shares[4] == pytest.approx(0.8)
    assert (shares[0], shares[20]) == (0, 1)
    assert all(early < late for early, late in zip(shares, shares[1:], strict=False))


def test_without_stages_there_is_one_in_which_everything_learns():
    progressive = ProgressiveTrainer(TrainingConfig(num_epochs=2.5), {None: 0}.__getitem__, lambda level: 10)
    assert progressive.total_steps == 25
    assert progressive.stages[0].level == 0
    assert len(progressive.stages[0].config.components) == 4
    assert progressive.epoch_share(1 / 3) == 1 / 3


LARGE = """training.stage_training={enable: true, stages: [{name: small, epochs: 1, resolution: 20},
    {name: large, epochs: 1, resolution: 33}, {name: larger, epochs: 1, resolution: 999}]}"""


def test_a_stage_above_the_images_is_trained_at_their_size_and_that_is_said_once_for_all_blocks(room, tmp_path, capsys):
    settings = (*FIELD[1:], *HASH, "block_manager.block_size=1.5", LARGE, "training.num_epochs=3")
    data = ("--data-root", str(room))
    notice = "Images have at most 32 pixels on their longer side at dataset.image_downsample=1. Stages of a higher"
    for command in (
        ("config", "check", *data, *settings),
        ("plan", *data, "--output-dir", str(tmp_path / "out"), *settings),
        ("train", *data, "--output-dir", str(tmp_path / "out"), "--jobs", "1", "training.max_steps=6", *settings),
    ):
        main([*command])
        text = " ".join("".join(capsys.readouterr()).split())
        assert text.count(notice) == 1
        assert text.count("use that size: large (33), larger (999).") == 1
    blocks = [block.id for block in load_output(tmp_path / "out")[1].blocks]
    assert len(blocks) > 1
    assert text.find(notice) < text.find("Training block")
    assert text.count("stage 'larger', images of up to 32 pixels a side") == len(blocks)
    assert sorted(path.name for path in (tmp_path / "out/store").glob("*.rgb")) == [
        *("level_0.rgb", "level_1.rgb", "level_2.rgb", "side_20.rgb")
    ]


DOCUMENTS = Path(__file__).parents[2] / "configs/block_nerf_config.yaml"
SMALLER = (
    *("block_manager.max_blocks=1", "block_manager.min_images_per_block=1"),
    *("block_nerf.num_layers=2", "block_nerf.skip_connections=[]", "block_nerf.hidden_dim=16"),
    *("block_nerf.num_samples_coarse=8", "block_nerf.num_samples_fine=8", "training.rgb_ssim_share=0"),
    *("dataset.batch_size=256", "dataset.num_rays_per_image=64", "validation.num_val_images=0"),
    *("logging.use_tensorboard=false", "training.max_steps=8"),
)


@pytest.mark.parametrize(
    ("width", "sides"),
    [(400, (100, 100, 100)), (1920, (256, 480, 480)), (4000, (256, 512, 1000)), (5472, (256, 512, 1024))],
)
def test_every_stage_of_the_documents_file_is_entered_whatever_the_size_of_images(tmp_path, width, sides):
    folder = write_room(tmp_path / "room", images=4, width=32, height=24)
    transforms = json.loads((folder / "transforms.json").read_text())
    for frame in transforms["frames"]:
        path = folder / frame["file_path"]
        Image.open(path).resize((width, width * 3 // 4)).save(path, compress_level=1)
    scale = width / transforms["w"]
    transforms |= {key: scale * transforms[key] for key in ("fl_x", "fl_y", "cx", "cy")} | {
        "w": width,
        "h": width * 3 // 4,
    }
    (folder / "transforms.json").write_text(json.dumps(transforms))
    config = load_config(DOCUMENTS, ["dataset.type=auto", *SMALLER])
    run = Run(*plan_scene(config, folder, tmp_path), tmp_path)
    entered = {}
    trainer = make_trainer(run, run.plan.blocks[0], open_store(run, progress=False), lambda progress: None)
    while trainer.step < trainer.total_steps:
        trainer.train_step()
        stage = trainer.batches.stages.stages[trainer.batches.number]
        sizes = {trainer.inputs.store.size(image_id, stage.level) for image_id in trainer.image_ids}
        entered[stage.config.name] = max(max(size) for size in sizes)
    assert entered == dict(zip(("coarse", "fine", "refinement"), sides, strict=True))


def test_the_first_step_of_each_stage_is_logged(room, tmp_path):
    settings = (*HASH, THREE, "training.num_epochs=3", "training.max_steps=14", "logging.log_freq=100")
    trainer = _trainer(room, tmp_path, *settings)
    trainer.train()
    begins = [0, *(math.ceil(end * 14) for end in trainer.batches.stages.ends[:-1])]
    rows = [json.loads(line) for line in (trainer.folders.block / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "loss/rgb" in row] == [begin + 1 for begin in begins]


def test_the_disk_that_the_store_takes_is_as_estimated(room, tmp_path):
    settings = (*HASH, THREE, "training.num_epochs=3")
    config, scene, _ = plan_scene(load_config(None, [*FIELD, *settings]), room, tmp_path)
    _trainer(room, tmp_path, *settings)
    files = [path for path in (tmp_path / "store").iterdir() if path.suffix not in (".json", ".lock")]
    assert store_bytes(scene, config) == sum(path.stat().st_size for path in files)


def test_a_stage_in_which_nothing_learns_is_refused():
    with pytest.raises(UserError, match=r"Nothing learns in stage 'a'.*pose"):
        _progressive([{"name": "a", "epochs": 1, "components": ["pose"]}])


def test_the_cost_counts_each_stage_by_its_pixels_and_samples(room, tmp_path):
    def minutes(*overrides: str) -> float:
        config, scene, plan = plan_scene(load_config(None, [*FIELD, *HASH, *overrides]), room, tmp_path)
        return estimate(plan.blocks[0], scene, config, cores=1).minutes

    def staged(stage: str) -> float:
        return minutes("training.num_epochs=4", f"training.stage_training={{enable: true, stages: [{stage}]}}")

    assert staged("{name: a, epochs: 4}") == pytest.approx(minutes("training.num_epochs=4"))
    assert staged("{name: a, epochs: 4, resolution: 8}") == pytest.approx(minutes("training.num_epochs=0.25"))
    assert staged("{name: a, epochs: 4, num_samples: 16}") > 1.5 * staged("{name: a, epochs: 4}")
