"""Blocks spread over workers, and one block trained by two processes over gloo as by one with twice the batch."""

import multiprocessing
import os
import random
import socket
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from blocknerf.blocks.output import plan_scene
from blocknerf.blocks.plan import read_plan
from blocknerf.core.config.load import load_config
from blocknerf.core.errors import UserError
from blocknerf.models.model_parallel import ModelParallelBlockNeRF
from blocknerf.runtime.process_group import ALONE, ENVIRONMENT, ProcessGroup
from blocknerf.scene.store import ImageStore
from blocknerf.training.block.gradient_sync import GradientSync
from blocknerf.training.block.inputs import BlockFolders, BlockInputs
from blocknerf.training.block.trainer import BlockNeRFTrainer
from blocknerf.training.launchers.choose import choose_launcher
from blocknerf.training.launchers.data_parallel import DistributedBlockNeRFTrainer
from blocknerf.training.run.order import longest_first, spread
from blocknerf.training.run.run import Run
from tests.support.room import write_room
from tests.support.small_field import SMALL_HASH

SMALL = (
    "block_manager.max_blocks=1",
    *SMALL_HASH,
    "block_nerf.perturb_samples=false",
    "training.use_visibility_network=false",
    "training.max_steps=8",
    "logging.use_tensorboard=false",
    "validation.num_val_images=1",
)
STEPS = 8
PATCHED = "training.rgb_ssim_share=0.1"  # one patch in a step of two processes: their parts are not even


def _finish(minutes: list[float], workers: int) -> float:
    """When the last of the workers ends who take the next block whenever they are idle."""
    ends = [0.0] * workers
    for block in minutes:
        ends[ends.index(min(ends))] += block
    return max(ends)


@pytest.mark.parametrize("workers", [2, 3, 4])
def test_workers_that_take_the_longest_first_end_nearly_as_soon_as_they_could(together, workers):
    """Graham's bound, 4/3 - 1/(3 m), against all divisions of few blocks."""
    rng = random.Random(workers)
    spec = together[3]
    blocks = [replace(spec, id=f"{number:03d}") for number in range(7)]
    takes = {block.id: rng.uniform(1, 9) for block in blocks}
    order = [takes[block.id] for block in longest_first(blocks, takes)]
    best = min(
        max(sum(t for t, w in zip(order, chosen, strict=True) if w == worker) for worker in range(workers))
        for chosen in product(range(workers), repeat=len(blocks))
    )
    assert _finish(order, workers) <= (4 / 3 - 1 / (3 * workers)) * best + 1e-9
    assert order == sorted(order, reverse=True)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 60), max_size=7), st.integers(1, 3), st.randoms())
def test_blocks_side_by_side_end_nearly_as_soon_as_they_could(minutes, places, random):
    """Whole minutes: ties, and blocks that take none."""
    takes = {f"{number:03d}": float(each) for number, each in enumerate(minutes)}
    place_of = spread(takes, places)
    shuffled = random.sample(list(takes.items()), len(takes))
    assert spread(dict(shuffled), places) == place_of
    assert place_of.keys() == takes.keys()
    assert set(place_of.values()) <= set(range(places))
    last = _last_end(takes, place_of, places)
    best = min(
        _last_end(takes, dict(zip(takes, chosen, strict=True)), places)
        for chosen in product(range(places), repeat=len(takes))
    )
    assert last <= (4 / 3 - 1 / (3 * places)) * best + 1e-9


def test_equal_blocks_are_spread_evenly():
    assert list(spread({f"{number:03d}": 2.5 for number in range(5)}, 2).values()) == [0, 1, 0, 1, 0]


def _last_end(takes: dict[str, float], place_of: dict[str, int], places: int) -> float:
    return max(sum(takes[each] for each in takes if place_of[each] == place) for place in range(places))


def _trainer(room: Path, out: Path, batch_size: int, group: ProcessGroup = ALONE, *overrides: str) -> BlockNeRFTrainer:
    config = load_config(None, [*SMALL, f"dataset.batch_size={batch_size}", *overrides])
    run = Run(*plan_scene(config, room, out), out)
    store = ImageStore.open(run.scene, 1, out / "store", progress=False)
    block = run.plan.blocks[0]
    folder = out / "blocks" / block.id
    return BlockNeRFTrainer(
        BlockInputs(run.config, block, store, run.plan.scene_hash), BlockFolders(folder), group=group
    )


def _steps(trainer: BlockNeRFTrainer) -> list[float]:
    return [float(trainer.train_step()[0]["mse"]) for _ in range(STEPS)]


def _member(rank: int, port: int, room: Path, out: Path, results) -> None:
    os.environ.update(RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    group = ProcessGroup.join("gloo")
    folder = out / str(rank)
    trainer = _trainer(room, folder, 128, group)
    losses = _steps(trainer)
    trainer.save()
    weights = {name: value.numpy() for name, value in trainer.model.state_dict().items()}
    again = _trainer(room, folder, 128, group)
    resumed = rank == 0 and again.resume() and again.step
    apart = _trainer(
        room, out / f"apart_{rank}", 128, group, 'distributed.device_map={nerf_mlp: "cpu:0", decoder: cpu}'
    )
    assert isinstance(apart.model, ModelParallelBlockNeRF)
    of_parts = _steps(apart), {name: value.numpy() for name, value in apart.model.state_dict().items()}
    patched = _steps(_trainer(room, out / f"patched_{rank}", 128, group, PATCHED))
    results.put(
        (rank, losses, weights, resumed, (folder / "blocks" / "000" / "latest.json").exists(), of_parts, patched)
    )
    group.leave()


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """The room, where both wrote, by rank what they learned, and the block."""
    room, out = write_room(tmp_path_factory.mktemp("room")), tmp_path_factory.mktemp("out")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    members = [context.Process(target=_member, args=(rank, port, room, out, results)) for rank in range(2)]
    for member in members:
        member.start()
    results = sorted((results.get(timeout=120) for _ in members), key=lambda found: found[0])
    for member in members:
        member.join(30)
    plan = read_plan(out / "0" / "plan.json")
    return room, out, results, plan.blocks[0]


def test_two_processes_are_one_with_twice_the_batch(together, tmp_path):
    room, _, results, _ = together
    alone = _trainer(room, tmp_path, 256)
    assert _steps(alone) == pytest.approx(results[0][1], rel=1e-4)
    assert results[0][1] == results[1][1]


def test_two_processes_are_one_where_only_one_has_a_patch(together, tmp_path):
    room, _, results, _ = together
    assert _steps(_trainer(room, tmp_path, 256, ALONE, PATCHED)) == pytest.approx(results[0][6], rel=1e-4)


def test_all_processes_hold_the_same_weights_and_the_first_one_writes(together):
    _, _, results, _ = together
    (_, _, one, resumed, first_wrote, *_), (_, _, other, _, second_wrote, *_) = results
    assert all((one[name] == other[name]).all() for name in one)
    assert resumed == STEPS
    assert first_wrote
    assert not second_wrote


def test_a_field_in_parts_learns_the_same_from_two_processes(together):
    _, _, results, _ = together
    for _, losses, weights, _, _, (losses_of_parts, weights_of_parts), _ in results:
        assert losses_of_parts == losses
        assert all((weights_of_parts[name] == weights[name]).all() for name in weights)


def test_processes_of_one_machine_do_not_share_a_device_through_nccl(together, tmp_path, monkeypatch):
    parts = 'distributed.device_map={decoder: 0, nerf_mlp: "cuda:0"}'
    for backend, local, refused in (("nccl", "2", True), ("nccl", "1", False), ("gloo", "2", False)):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", local)
        config = load_config(None, [*SMALL, parts, f"distributed.backend={backend}"])
        run = Run(*plan_scene(config, together[0], tmp_path / f"{backend}_{local}"), tmp_path)
        if refused:
            with pytest.raises(UserError, match=r"parts of its field on cuda:0 .* distributed\.backend"):
                DistributedBlockNeRFTrainer(run.config.distributed, ProcessGroup(0, 2))
        else:
            DistributedBlockNeRFTrainer(run.config.distributed, ProcessGroup(0, 2))


def test_a_checkpoint_of_two_processes_is_not_gone_on_with_by_one(together):
    room, out, _, _ = together
    with pytest.raises(UserError, match="by 2 processes"):
        _trainer(room, out / "0", 128).resume()


def test_a_parameter_that_no_ray_reached_is_zero_or_an_error(together, tmp_path):
    trainer = _trainer(together[0], tmp_path, 128)
    lonely = ProcessGroup(1, 2)
    lonely.add = lambda tensors: None
    lonely.unite = lambda flags: None
    for finds in (True, False):
        trainer.stepper.optimizer.clear()
        exchange = GradientSync(lonely, trainer.model, trainer.stepper.optimizer, finds)
        if finds:
            exchange.add({"mse": torch.ones(())})
            assert all(not bool(gradient.any()) for gradient in trainer.stepper.optimizer.gradients_of_all())
        else:
            with pytest.raises(UserError, match="find_unused_parameters is false"):
                exchange.add({"mse": torch.ones(())})


def test_jobs_and_a_group_do_not_go_together(together, tmp_path):
    config = load_config(None, SMALL)
    run = Run(*plan_scene(config, together[0], tmp_path), tmp_path)
    with pytest.raises(UserError, match="one way"):
        choose_launcher(run, run.plan.blocks, jobs=2, data_parallel=ProcessGroup(0, 2))


@pytest.mark.parametrize(
    ("backend", "cuda", "made"),
    [("nccl", False, "gloo"), ("gloo", False, "gloo"), ("nccl", True, "cpu:gloo,cuda:nccl"), ("gloo", True, "gloo")],
)
def test_gloo_stands_in_for_nccl(backend, cuda, made, monkeypatch, caplog):
    """What distributed.backend asks for is what the group is made with, where there is a device for it.

    Rays, tables and random states lie on the processor, which nccl alone cannot carry.
    """
    for name in ENVIRONMENT:
        monkeypatch.setenv(name, "0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    asked = []
    monkeypatch.setattr("torch.distributed.init_process_group", lambda backend, timeout: asked.append(backend))
    monkeypatch.setattr("torch.distributed.get_rank", lambda: 0)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 1)
    ProcessGroup.join(load_config(None, [f"distributed.backend={backend}"]).distributed.backend)
    assert asked == [made]
    assert ("gloo instead of nccl" in caplog.text) is (backend == "nccl" and not cuda)
