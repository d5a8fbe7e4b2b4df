"""A block that learns on another device than the processor: every tensor of a step stands there."""

from pathlib import Path

import pytest
import torch

from blocknerf.blocks.output import plan_scene
from blocknerf.core.config.load import load_config
from blocknerf.kernels.registry import use_backend
from blocknerf.scene.store import ImageStore
from blocknerf.training.block.inputs import BlockFolders, BlockInputs
from blocknerf.training.block.trainer import BlockNeRFTrainer
from blocknerf.training.block.training_step import TrainingStep
from blocknerf.training.run.run import Run
from tests.support.loss_terms import EVERY_TERM
from tests.support.room import write_room
from tests.support.second_device import DeviceTensor, SecondDevice
from tests.support.tiny_run import TINY, tiny_run, trainer_of

HASH_KEYS = ("block_nerf.hash_grid", "block_nerf.proposal_resolution")
EVERYTHING = (*EVERY_TERM, "training.use_pose_refinement=true", "dataset.batch_size=512")


@pytest.fixture
def plainly(monkeypatch):
    """References of all kernels, and samples that are drawn alike on both devices."""
    monkeypatch.setattr(TrainingStep, "_rng_of_step", lambda stepper, rng: rng)
    with use_backend("torch"):
        yield


@pytest.mark.parametrize("overrides", [(), EVERYTHING])
def test_steps_are_those_of_the_processor(tmp_path, plainly, overrides):
    room = write_room(tmp_path / "room", depth=True)
    on_cpu = trainer_of(tiny_run(room, tmp_path / "here", *overrides))
    with SecondDevice():
        settings = (*overrides, "distributed.device_map={encoder: meta}")
        on_device = trainer_of(tiny_run(room, tmp_path / "there", *settings))
        for step in range(3):
            terms, _ = on_cpu.train_step()
            others, _ = on_device.train_step()
            for name, term in terms.items():
                assert float(others[name]) == pytest.approx(float(term), rel=1e-5), (step, name)
        on_device.save()
        for name, parameter in on_device.model.named_parameters():
            assert isinstance(parameter.data, DeviceTensor), name
    cpu_state = on_cpu.model.state_dict()
    assert float(cpu_state["field.grid.table"].abs().max()) > 1e-3  # rows moved far from where they began
    assert set(cpu_state) == set(on_device.model.state_dict())
    for name, tensor in on_device.model.state_dict().items():
        assert torch.allclose(tensor.values, cpu_state[name], rtol=1e-4, atol=1e-6), name


MLP = (
    "block_nerf.backbone=mlp",
    "block_nerf.num_layers=3",
    "block_nerf.skip_connections=[1]",
    "training.rgb_ssim_share=0.1",
    "dataset.batch_size=512",
    "training.use_pose_refinement=true",
)


@pytest.mark.parametrize("overrides", [EVERYTHING, MLP], ids=["hash", "mlp"])
def test_a_block_of_either_backbone_learns_whole_on_a_device(tmp_path, plainly, overrides):
    room = write_room(tmp_path / "room", depth=True)
    backbone = [key for key in TINY if overrides is EVERYTHING or not key.startswith(HASH_KEYS)]
    run = Run(*plan_scene(load_config(None, [*backbone, *overrides]), room, tmp_path / "out"), tmp_path / "out")
    store = ImageStore.open(run.scene, 1, run.output_dir / "store", progress=False)

    def trainer_on(device: str, folder: Path) -> BlockNeRFTrainer:
        block = run.plan.blocks[0]
        return BlockNeRFTrainer(
            BlockInputs(run.config, block, store, run.plan.scene_hash), BlockFolders(folder), device=device
        )

    on_cpu = trainer_on("cpu", tmp_path / "here")
    with SecondDevice():
        on_device = trainer_on("meta", tmp_path / "there")
        for parameter in on_device.model.parameters():
            assert isinstance(parameter.data, DeviceTensor)
        for step in range(3):
            terms, _ = on_cpu.train_step()
            others, _ = on_device.train_step()
            for name, term in terms.items():
                assert float(others[name]) == pytest.approx(float(term), rel=1e-4), (step, name)
        on_device.save()
        again = trainer_on("meta", tmp_path / "there")
        assert again.resume()
        assert again.step == 3
        again.train_step()


def test_a_tensor_that_stayed_behind_is_noticed():
    with SecondDevice():
        on_device = torch.ones(3, device="meta")
        assert (on_device + 1).cpu().tolist() == [2.0, 2.0, 2.0]
        with pytest.raises(RuntimeError, match="not on the same device"):
            on_device + torch.ones(3)


def test_samples_of_another_device_follow_from_the_processors_generator(tmp_path, monkeypatch):
    """So that a checkpoint holds no generator of a device, and the next step differs."""
    trainer = trainer_of(tiny_run(write_room(tmp_path / "room"), tmp_path / "out"))
    assert trainer.stepper._rng_of_step(trainer.rng) is trainer.rng
    state = trainer.rng.get_state()
    monkeypatch.setattr(type(trainer.model), "device", torch.device("cuda"))
    make = torch.Generator
    monkeypatch.setattr(torch, "Generator", lambda device: make())
    seeds = [trainer.stepper._rng_of_step(trainer.rng).initial_seed() for _ in range(2)]
    trainer.rng.set_state(state)
    assert trainer.stepper._rng_of_step(trainer.rng).initial_seed() == seeds[0] != seeds[1]
