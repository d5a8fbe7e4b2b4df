"""Training with pose refinement: a displaced drive is found, a stop changes nothing, features come from photographs."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from blocknerf.blocks.output import plan_scene
from blocknerf.cli.plan import plan
from blocknerf.core.config.load import load_config
from blocknerf.geometry import se3
from blocknerf.models.block_file import BlockFile, read_block, write_block
from blocknerf.models.block_meta import ModelMeta
from blocknerf.models.poses import PoseGroups
from blocknerf.scene.store import ImageStore
from blocknerf.training.block import pose_setup
from blocknerf.training.block.checkpoint import CHECKPOINT
from blocknerf.training.block.field_restarts import POSES_REST, RESTARTS_END, FieldRestarts
from blocknerf.training.block.inputs import BlockFolders, BlockInputs
from blocknerf.training.block.trainer import BlockNeRFTrainer
from blocknerf.training.run.one_block import make_trainer
from blocknerf.training.run.run import Run, open_store
from tests.support.room import write_room
from tests.support.writers import Capture, Shot, write_kitti

SMALL = (
    "training.use_pose_refinement=true",
    "training.use_appearance_embedding=false",
    "block_manager.max_blocks=1",
    "block_nerf.hash_grid.num_levels=4",
    "block_nerf.hash_grid.log2_table_rows=12",
    "block_nerf.hash_grid.finest_resolution=64",
    "block_nerf.proposal_resolution=24",
    "block_nerf.num_samples_coarse=24",
    "block_nerf.num_samples_fine=16",
    "block_nerf.hidden_dim=32",
    "dataset.batch_size=512",
    "training.num_epochs=20",
    "training.nerf_lr=1e-2",
    "training.distortion_loss_weight=2e-3",
    "training.lr_warmup_steps=10",
    "validation.num_val_images=2",
    "logging.use_tensorboard=false",
)
DISPLACED_M = np.array([0.25, -0.15, 0.1])


@pytest.fixture(scope="module")
def room(tmp_path_factory) -> Path:
    """A room whose drive at dusk is told to stand where it did not."""
    folder = write_room(tmp_path_factory.mktemp("room"))
    path = folder / "transforms.json"
    tree = json.loads(path.read_text())
    for frame in tree["frames"]:
        if "dusk" in frame["file_path"]:
            for axis in range(3):
                frame["transform_matrix"][axis][3] += DISPLACED_M[axis]
    path.write_text(json.dumps(tree))
    return folder


def _trainer(room: Path, out: Path, *overrides: str) -> BlockNeRFTrainer:
    config, scene, plan = plan_scene(load_config(None, [*SMALL, *overrides]), room, out)
    store = ImageStore.open(scene, 1, out / "store", progress=False)
    return BlockNeRFTrainer(
        BlockInputs(config, plan.blocks[0], store, plan.scene_hash), BlockFolders(out / "blocks" / "000")
    )


def _features(image: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.adaptive_avg_pool2d(image[:2], (16, 16)).flatten()


def test_a_displaced_drive_turns_back(room, tmp_path):
    """Fourteen small pictures leave depth open, so only half of the way is asked for, and no wandering."""
    trainer = _trainer(room, tmp_path)
    trainer.train()
    poses = trainer.model.poses
    assert poses is not None
    offsets = dict(zip(poses.groups, poses.offsets().detach().numpy(), strict=True))
    apart = offsets["dusk"] - offsets["noon"]
    assert np.linalg.norm(apart[:3] + DISPLACED_M) < 0.6 * np.linalg.norm(DISPLACED_M)
    assert np.linalg.norm(apart[3:]) < 0.02
    captured = torch.from_numpy(trainer.inputs.store.records[trainer.image_ids[0]].world_from_cam)
    learned = trainer.model.refined_pose(captured, drive="dusk")
    assert 0.3 < float((learned - captured)[:, 3].norm()) / np.linalg.norm(apart[:3]) < 0.7  # the gauge shares it out


@pytest.mark.parametrize("mode", ["drive", "image", "features"])
def test_stopped_and_resumed_is_never_stopped(room, tmp_path, monkeypatch, mode):
    monkeypatch.setitem(pose_setup.EXTRACTORS, "resnet18", lambda weights, rng: _features)
    override = f"pose_refinement.mode={mode}"
    whole = _trainer(room, tmp_path / "whole", override)
    for _ in range(20):
        whole.train_step()
    first = _trainer(room, tmp_path / "halves", override)
    for _ in range(10):
        first.train_step()
    first.save()
    second = _trainer(room, tmp_path / "halves", override)
    assert second.resume()
    for _ in range(10):
        second.train_step()
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, second.model.state_dict()[name]), name
    assert whole.model.poses is not None
    assert any(bool((parameter.detach() != 0).any()) for parameter in whole.model.poses.parameters())


def test_restarts_come_at_equal_distances_and_the_last_takes_the_rest():
    for count in (1, 3, 7):
        restarts = FieldRestarts(count)
        progress = np.linspace(0, 1, 2001)
        behind = np.array([restarts.behind(float(p)) for p in progress])
        assert behind[0] == 0
        assert behind[-1] == count
        at = progress[1:][np.diff(behind) > 0]
        assert np.diff(behind).max() == 1
        assert at == pytest.approx(RESTARTS_END * np.arange(1, count + 1) / count, abs=1e-3)
        since = np.array([restarts.since(float(p)) for p in progress])
        assert since[-1] == 1
        assert (np.diff(since)[np.diff(behind) == 0] >= 0).all()
        assert (since[1:][np.diff(behind) > 0] < 0.01 * count).all()
        rests = np.array([restarts.poses_rest(float(p)) for p in progress])
        assert rests.mean() == pytest.approx(POSES_REST * RESTARTS_END, abs=0.01)
        assert not rests[progress < RESTARTS_END / count - 1e-3].any()
    none = FieldRestarts(0)
    assert [none.behind(p) for p in (0.0, 0.5, 1.0)] == [0, 0, 0]
    assert [none.since(p) for p in (0.0, 0.5, 1.0)] == [0.0, 0.5, 1.0]
    assert not any(none.poses_rest(p) for p in (0.0, 0.5, 1.0))


RESTARTS = ("training.max_steps=60", "pose_refinement.field_restarts=2")  # after steps 10 and 20


def test_the_field_begins_anew_and_poses_stay(room, tmp_path):
    trainer = _trainer(room, tmp_path, *RESTARTS)
    model = trainer.model
    assert model.poses is not None
    for _ in range(10):
        trainer.train_step()
    learned = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    trainer.train_step()
    for name, tensor in model.state_dict().items():
        if name.startswith("poses."):
            assert torch.equal(tensor, learned[name]), name
    begun = trainer.config.training.nerf_lr + 1e-4  # one step of Adam from where a new table begins
    assert float(model.state_dict()["field.grid.table"].abs().max()) <= begun
    assert float(learned["field.grid.table"].abs().max()) > begun
    assert trainer.stepper.optimizer.step_count == 1
    for _ in range(4):
        trainer.train_step()
    assert not torch.equal(model.poses.shares, learned["poses.shares"])  # they go on when the field knows something


def test_restarted_stopped_and_resumed_is_never_stopped(room, tmp_path):
    whole = _trainer(room, tmp_path / "whole", *RESTARTS)
    whole.train()
    for stop in (10, 11):
        folder = tmp_path / f"stopped at {stop}"
        first = _trainer(room, folder, *RESTARTS)
        with pytest.raises(KeyboardInterrupt):
            first.train(should_stop=lambda: first.step == stop)  # noqa: B023
        second = _trainer(room, folder, *RESTARTS)
        assert second.resume()
        second.train()
        for name, tensor in whole.model.state_dict().items():
            assert torch.equal(tensor, second.model.state_dict()[name]), (stop, name)


def test_features_are_those_of_the_photographs(room, tmp_path, monkeypatch):
    monkeypatch.setitem(pose_setup.EXTRACTORS, "resnet18", lambda weights, rng: _features)
    trainer = _trainer(room, tmp_path, "pose_refinement.mode=features")
    assert trainer.model.poses is not None
    features = trainer.model.poses.features
    assert features.shape == (len(trainer.image_ids), 512)
    assert len(features.unique(dim=0)) == len(trainer.image_ids)
    red = trainer.inputs.store.rgb(trainer.image_ids[3])[..., 0].astype(float) / 255
    assert float(features[3, :256].mean()) == pytest.approx(red.mean(), abs=0.01)


def test_features_need_no_weights_and_no_network(room, tmp_path):
    trainer = _trainer(room, tmp_path, "pose_refinement.feature_extractor=resnet18", "pose_refinement.hidden_dim=16")
    assert trainer.model.poses is not None
    assert trainer.model.poses.config.mode == "features"
    for _ in range(3):
        trainer.train_step()
    assert bool((trainer.model.poses.network[-1].weight != 0).any())


# --- one drive ------------------------------------------------------------------------------------------------------


def _sequence(room: Path, out: Path, pause_s: float, images: int = 16) -> Path:
    """The room's photographs as a sequence of KITTI, so as one drive: noon, a pause, and then dusk."""
    tree = json.loads((room / "transforms.json").read_text())
    frames = sorted(tree["frames"], key=lambda frame: ("dusk" in frame["file_path"], frame["file_path"]))[:images]
    shots = []
    for number, frame in enumerate(frames):
        matrix = np.array(frame["transform_matrix"])
        rgb = np.array(Image.open(room / frame["file_path"]))
        right, up, back, center = matrix[:3].T
        shots.append(Shot(f"{number:04d}.png", rgb, right, -up, -back, center, np.zeros(rgb.shape[:2], bool)))
    write_kitti(out, Capture(tree["w"], tree["h"], tree["fl_x"], shots))
    seconds = [0.1 * number + pause_s * ("dusk" in frame["file_path"]) for number, frame in enumerate(frames)]
    (out / "times.txt").write_text("".join(f"{one}\n" for one in seconds))
    return out


@pytest.fixture
def messages(caplog, monkeypatch) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(logging.getLogger("blocknerf"), "propagate", True)
    caplog.set_level(logging.INFO, "blocknerf")
    return caplog


def test_one_drive_is_refined_by_its_segments_and_says_so(room, tmp_path, messages):
    trainer = _trainer(_sequence(room, tmp_path / "sequence", pause_s=60.0), tmp_path / "out")
    assert (
        "Block 000: poses are refined segment by segment, of which there are 2, for all images are of one"
        in messages.text
    )
    for _ in range(20):
        trainer.train_step()
    poses = trainer.model.poses
    assert poses is not None
    noon, dusk = poses.offsets().detach().numpy()
    assert np.linalg.norm((dusk - noon)[:3]) > 1e-3
    for image_id in trainer.spec.test_images:
        record = trainer.inputs.store.records[image_id]
        learned = trainer.model.refined_pose(
            torch.from_numpy(record.world_from_cam), None, record.drive, record.segment
        )
        moved = poses.motion(None, None, record.segment)
        assert moved is not None
        assert torch.equal(learned, se3.compose(moved, torch.from_numpy(record.world_from_cam)))


def test_one_drive_without_a_gap_is_refined_by_image_and_says_so(room, tmp_path, messages):
    trainer = _trainer(_sequence(room, tmp_path / "sequence", pause_s=0.0), tmp_path / "out")
    assert "Block 000: poses are refined image by image, for all images are of one drive" in messages.text
    assert trainer.model.poses is not None
    assert trainer.model.poses.groups == trainer.image_ids


def test_the_plan_says_it_of_all_its_blocks_at_once(room, tmp_path, messages):
    sequence = _sequence(room, tmp_path / "sequence", pause_s=60.0)
    plan(sequence, tmp_path / "out", overrides=("training.use_pose_refinement=true", "block_manager.max_blocks=1"))
    assert "Block 000: poses are refined segment by segment, of which there are 2" in messages.text
    plan(sequence, tmp_path / "without", overrides=("block_manager.max_blocks=1",))
    assert messages.text.count("poses are refined") == 1


def test_drives_of_which_there_are_several_say_nothing(room, tmp_path, messages):
    _trainer(room, tmp_path)
    assert "refined" not in messages.text


@pytest.mark.parametrize("mode", ["drive", "segment", "image", "features"])
def test_where_no_pose_can_move_all_levels_are_learned_from_the_start_and_a_sentence_says_why(
    room, tmp_path, messages, mode
):
    overrides = ("block_manager.min_images_per_block=1", "dataset.test_every=2", f"pose_refinement.mode={mode}")
    trainer = _trainer(_sequence(room, tmp_path / "sequence", 0.0, images=2), tmp_path / "out", *overrides)
    assert "Block 000: no pose is refined, for there is one image, and what all images move alike" in messages.text
    trainer.train_step()
    assert trainer.model.field.grid.active_levels == 4


def test_a_run_whose_stages_leave_poses_alone_says_so(room, tmp_path, messages):
    stages = "training.stage_training={enable: true, stages: [{name: all, epochs: 20, components: [nerf]}]}"
    trainer = _trainer(room, tmp_path, stages)
    assert "no stage of training.stage_training learns poses; no level is let in late" in messages.text
    trainer.train_step()
    assert trainer.model.field.grid.active_levels == 4


def test_a_block_begun_before_there_were_segments_goes_on_by_drive(room, tmp_path, messages):
    sequence, out = _sequence(room, tmp_path / "sequence", pause_s=60.0), tmp_path / "out"
    config, scene, plan = plan_scene(load_config(None, SMALL), sequence, out)
    run, block = Run(config, scene, plan, out), plan.blocks[0]
    store = open_store(run, progress=False)
    by_drive = PoseGroups("drive", ("0",) * len(block.train_images))
    begun = BlockNeRFTrainer(
        BlockInputs(config, block, store, plan.scene_hash, pose_groups=by_drive),
        BlockFolders(run.block_folder(block.id)),
    )
    begun.train_step()
    begun.save()
    for name in (CHECKPOINT, "latest"):
        file = read_block(run.block_folder(block.id), name)
        model = {name: entry for name, entry in file.meta.model if name != "pose_groups"}
        meta = file.meta.model_copy(update={"model": ModelMeta(**model)})
        write_block(run.block_folder(block.id), name, BlockFile(meta, file.tensors))
        assert "pose_groups" not in json.loads((run.block_folder(block.id) / f"{name}.json").read_text())["model"]
    again = make_trainer(run, block, store, lambda progress: None)
    assert again.resume()
    assert again.model.poses is not None
    assert again.model.poses.pose_groups == by_drive
    assert "no pose is refined, for all images are of one drive" in messages.text
    again.train_step()
