"""Neighbours side by side: what they show each other, what each learns of it, and that a run can be cut anywhere."""

import multiprocessing
import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from blocknerf.blocks.output import plan_scene
from blocknerf.blocks.plan import BlockSpec, write_plan
from blocknerf.cli.train import train
from blocknerf.core.config.load import load_config
from blocknerf.core.errors import UserError
from blocknerf.core.seeds import generator
from blocknerf.kernels.registry import use_backend
from blocknerf.models.block_file import read_block
from blocknerf.models.block_nerf import BlockNeRF
from blocknerf.runtime.process_group import ALONE, ENVIRONMENT, ProcessGroup
from blocknerf.scene.store import ImageStore
from blocknerf.training.block.checkpoint import CHECKPOINT, SIDE_BY_SIDE, ModelCheckpoint
from blocknerf.training.block.inputs import BlockFolders, BlockInputs
from blocknerf.training.block.losses.block_nerf_loss import BlockNeRFLoss
from blocknerf.training.block.losses.terms import consistency_loss
from blocknerf.training.block.neighbour_targets import NeighbourTargets
from blocknerf.training.block.trainer import BlockNeRFTrainer
from blocknerf.training.block.training_step import TrainingStep
from blocknerf.training.joint.borders import Border, borders_of, render_shared, with_block_slots
from blocknerf.training.joint.exchange import ConsistencyExchange
from blocknerf.training.launchers.choose import choose_launcher
from blocknerf.training.run.one_block import make_trainer
from blocknerf.training.run.run import Run
from blocknerf.training.train_blocks import train_blocks
from tests.support.room import write_room
from tests.support.second_device import SecondDevice
from tests.support.small_field import SMALL_HASH

SMALL = (
    *SMALL_HASH,
    "block_manager.block_size=2.5",
    "block_manager.overlap_ratio=0.5",
    "block_manager.min_images_per_block=6",
    "dataset.batch_size=128",
    "dataset.test_every=0",
    "training.max_steps=12",
    "training.lr_warmup_steps=2",
    "training.use_visibility_network=false",
    "validation.num_val_images=0",
    "logging.log_freq=5",
    "logging.use_tensorboard=false",
    "distributed.exchange_every=5",
)
TERM = "training.consistency_loss_weight=5"


@pytest.fixture(scope="module")
def room(tmp_path_factory) -> Path:
    return write_room(tmp_path_factory.mktemp("room"))


def _run(room: Path, out: Path, *overrides: str) -> Run:
    """Two of the blocks of the room, each with a cube that holds its walls."""
    config, scene, plan = plan_scene(load_config(None, [*SMALL, *overrides]), room, out)
    first, second = (replace(block, radius_m=8.0) for block in plan.blocks[:2])
    blocks = (replace(first, neighbours=(second.id,)), replace(second, neighbours=(first.id,)))
    neighbouring = replace(plan, blocks=blocks)
    write_plan(out / "plan.json", neighbouring)
    return Run(config, scene, neighbouring, out)


def _train(run: Run, resume: bool = False, joint: ProcessGroup | None = ALONE, block_ids: tuple[str, ...] = ()):
    return train_blocks(run, block_ids, resume, launcher=choose_launcher(run, run.plan.blocks, 1, joint=joint))


def _files(run: Run) -> dict[str, dict[str, torch.Tensor]]:
    return {block.id: read_block(run.block_folder(block.id), "latest").tensors for block in run.plan.blocks}


def _same(files, other_files) -> bool:
    return all(
        torch.equal(tensor, other_files[block][name]) for block in files for name, tensor in files[block].items()
    )


def _spec(block_id: str, x_m: float, radius_m: float = 2.0) -> BlockSpec:
    center = (x_m, 0.0, 0.0)
    return BlockSpec(block_id, center, radius_m, center, ("a",), ())


def _store(run: Run) -> ImageStore:
    return ImageStore.open(run.scene, 1, run.output_dir / "store", progress=False)


def _models(run: Run, store: ImageStore) -> dict[str, BlockNeRF]:
    """As they are before the first step, but with something to see."""
    models = {}
    for block in run.plan.blocks:
        model = BlockNeRFTrainer(
            BlockInputs(run.config, block, store, ""), BlockFolders(run.block_folder(block.id))
        ).model
        with torch.no_grad():
            model.field.sparse_tables()["table"].rows.mul_(5000)
        models[block.id] = model
    return models


def _exchange(run: Run, store: ImageStore, group: ProcessGroup = ALONE) -> ConsistencyExchange:
    hosts = {block.id: index % group.size for index, block in enumerate(run.plan.blocks)}
    return ConsistencyExchange(run.config, borders_of(run.plan.blocks, (), store), hosts, store, group)


def test_weights_are_one_half_way_and_nothing_at_the_middles_and_at_the_edges():
    border = Border(_spec("000", 0.0), _spec("001", 3.0, 2.5), ("a",))
    half_way, first_middle, second_middle = border.weights(torch.tensor([[1.5, 0, 0], [0, 0, 0], [3, 0, 0]]))
    assert float(half_way) == pytest.approx(1)
    assert float(first_middle) == float(second_middle) == 0
    edges = torch.tensor([[2.0, 0, 0], [1.5, 2.0, 0], [1.5, 0, -2.0], [0.5, 1, 0], [9, 9, 9]])
    assert border.weights(edges).tolist() == [0, 0, 0, 0, 0]
    places = 4 * torch.rand(1000, 3, generator=generator(0, "places")) - 0.5
    weights = border.weights(places)
    assert ((weights >= 0) & (weights <= 1)).all()
    assert (weights > 0).any()
    turned = Border(border.second, border.first, ("a",))
    assert torch.allclose(turned.weights(places), weights, atol=1e-6)
    along = border.weights(torch.tensor([[1.5 + x, 0.3, 0.1] for x in (-0.9, -0.6, -0.3, 0.0)]))
    assert (along.diff() > 0).all()


def test_blocks_that_do_not_both_reach_the_place_between_them_have_no_border():
    assert Border(_spec("000", 0.0), _spec("001", 3.9), ("a",)).is_shared
    assert not Border(_spec("000", 0.0), _spec("001", 4.1), ("a",)).is_shared
    assert not Border(_spec("000", 0.0), _spec("001", 1.0), ()).is_shared


def test_both_blocks_draw_the_same_rays_and_each_round_others(room, tmp_path):
    run = _run(room, tmp_path)
    store = _store(run)
    (border,) = borders_of(run.plan.blocks, (), store)
    rays, again = (border.draw(store, 64, 1, 3) for _ in range(2))
    assert torch.equal(rays.directions, again.directions)
    assert not torch.equal(rays.directions, border.draw(store, 64, 1, 4).directions)
    assert set(border.image_ids) == set(border.first.train_images) & set(border.second.train_images)
    for model in _models(run, store).values():
        slots = with_block_slots(rays, border, model.image_ids).image_slots
        assert [model.image_ids[slot] for slot in slots] == [border.image_ids[slot] for slot in rays.image_slots]


def test_each_is_shown_what_the_other_renders_and_every_ray_once_a_round(room, tmp_path):
    run = _run(room, tmp_path)
    store = _store(run)
    models, exchange = _models(run, store), _exchange(run, store)
    learning = {block_id: NeighbourTargets(exchange.every) for block_id in models}
    exchange(1, models, learning)
    (border,) = exchange.borders
    rays = with_block_slots(
        border.draw(store, exchange.count, run.config.training.seed, 1), border, models[border.second.id].image_ids
    )
    seen = render_shared(models[border.second.id], rays)
    weights = border.weights(rays.origins + seen[:, 3:] * rays.directions)
    shared = learning[border.first.id].borders[border.second.id]
    assert 5 < len(shared.rays) < exchange.count
    assert torch.equal(shared.rgb, seen[weights > 0, :3])
    assert torch.equal(shared.distance_m, seen[weights > 0, 3])
    assert torch.equal(shared.weights, weights[weights > 0])
    steps = [learning[border.first.id].at(step)[0] for step in range(exchange.every)]
    assert sum(len(step.rays) for step in steps) == len(shared.rays)
    assert torch.equal(torch.cat([step.rgb for step in steps]).sort(0).values, shared.rgb.sort(0).values)
    half = learning[border.first.id].at(0, share=0.5)[0]
    assert torch.equal(half.rgb, steps[0].rgb[::2])


def test_identical_blocks_have_nothing_to_learn_and_the_neighbour_learns_nothing(room, tmp_path):
    run = _run(room, tmp_path, TERM)
    first, second = run.plan.blocks
    common = tuple(name for name in first.train_images if name in second.train_images)
    twins = tuple(replace(block, center_world=(0.0, 0.0, 0.0), train_images=common) for block in (first, second))
    run = replace(run, plan=replace(run.plan, blocks=twins))
    store = _store(run)
    models, exchange = _models(run, store), _exchange(run, store)
    apart = {block_id: NeighbourTargets(exchange.every) for block_id in models}
    exchange(1, models, apart)
    models[second.id].load_state_dict(models[first.id].state_dict())
    equal = {block_id: NeighbourTargets(exchange.every) for block_id in models}
    exchange(1, models, equal)
    trainer = BlockNeRFTrainer(BlockInputs(run.config, twins[0], store, ""), BlockFolders(tmp_path))
    batch = trainer.sampler.next()
    loss = BlockNeRFLoss(run.config.training)
    assert float(loss(models[first.id], batch, None, equal[first.id].at(0))[1]["consistency"]) == pytest.approx(
        0, abs=1e-10
    )
    models[first.id].zero_grad()
    total, terms = loss(models[first.id], batch, None, apart[first.id].at(0))
    assert float(terms["consistency"]) > 1e-4
    total.backward()
    assert any(parameter.grad is not None for parameter in models[first.id].parameters())
    assert all(parameter.grad is None for parameter in models[second.id].parameters())


def _one_of_two(rank: int, port: int, room: Path, out: Path) -> list[str]:
    os.environ.update(RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    group = ProcessGroup.join("gloo")
    try:
        return [result.block_id for result in _train(_run(room, out, TERM), joint=group)]
    finally:
        group.leave()


def test_two_processes_train_what_one_does(room, tmp_path, monkeypatch):
    alone = _run(room, tmp_path / "alone", TERM)
    _train(alone)
    two = _run(room, tmp_path / "two", TERM)  # planned by one
    for name in ENVIRONMENT:
        monkeypatch.setenv(name, "")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    other = multiprocessing.get_context("spawn").Process(target=_one_of_two, args=(1, port, room, two.output_dir))
    other.start()
    trained_here = _one_of_two(0, port, room, two.output_dir)
    other.join(60)
    assert trained_here == [alone.plan.blocks[0].id]
    assert _same(_files(alone), _files(two))


def test_blocks_side_by_side_learn_on_a_device_each(room, tmp_path, monkeypatch):
    """And what one shows the other goes from device to device."""
    monkeypatch.setattr(TrainingStep, "_rng_of_step", lambda stepper, rng: rng)  # draws alike on both
    learned_on = []

    def make(run, *arguments, **named):
        trainer = make_trainer(run, *arguments, **named)
        learned_on.append(str(trainer.model.device))
        return trainer

    monkeypatch.setattr("blocknerf.training.launchers.joint.make_trainer", make)
    on_cpu, on_device = (_run(room, tmp_path / name, TERM) for name in ("here", "away"))
    with use_backend("torch"):
        _train(on_cpu)
        with SecondDevice():
            _train(replace(on_device, devices=("cpu", "meta")))
    assert learned_on[:2] == ["cpu", "cpu"]
    assert sorted(learned_on[2:]) == ["cpu", "meta"]
    cpu_files, device_files = _files(on_cpu), _files(on_device)
    for block_id, tensors in cpu_files.items():
        for name, tensor in tensors.items():
            torch.testing.assert_close(device_files[block_id][name], tensor, rtol=1e-3, atol=1e-5)


def test_without_weight_blocks_are_those_of_a_plain_run_and_with_it_others(room, tmp_path, caplog):
    plain = _run(room, tmp_path / "plain")
    _train(plain, joint=None)
    weightless = _run(room, tmp_path / "weightless")
    _train(weightless)
    assert "learn nothing from each other" in caplog.text
    assert _same(_files(plain), _files(weightless))
    files = [_files(plain)]
    for name, every in (("five", 5), ("three", 3)):
        run = _run(room, tmp_path / name, TERM, f"distributed.exchange_every={every}")
        _train(run)
        files.append(_files(run))
        logs = [(run.block_folder(block.id) / "metrics.jsonl").read_text() for block in run.plan.blocks]
        assert any('"loss/consistency"' in log for log in logs)  # in the last round one block has a ray to compare
    assert not any(_same(files[i], files[j]) for i, j in ((0, 1), (0, 2), (1, 2)))


def test_the_difference_on_shared_rays_falls(room, tmp_path):
    differences = []
    for name, weight in (("without", 1e-12), ("with", 5.0)):
        longer = ("training.max_steps=60", "dataset.batch_size=256")
        run = _run(room, tmp_path / name, f"training.consistency_loss_weight={weight}", *longer)
        _train(run)
        store = _store(run)
        (border,) = borders_of(run.plan.blocks, (), store)
        rays = border.draw(store, 1000, 0, 10_000)
        seen = []
        for block_id, tensors in _files(run).items():
            model = BlockNeRF.from_state(read_block(run.block_folder(block_id), "latest").meta.model, tensors)
            seen.append(render_shared(model, with_block_slots(rays, border, model.image_ids)))
        first, second = (torch.cat([rendered[:, :3], rendered[:, 3:] / 8.0], -1) for rendered in seen)
        everywhere = torch.ones(len(rays))
        differences.append(consistency_loss(first[:, :3], first[:, 3], second[:, :3], second[:, 3], everywhere))
    without, with_term = map(float, differences)
    assert with_term < 0.85 * without


class _StopAfter:
    """Asks to stop at the nth question."""

    def __init__(self, questions: int):
        self.left = questions

    @property
    def requested(self) -> bool:
        self.left -= 1
        return self.left < 0

    def __enter__(self):
        return self

    def __exit__(self, *error) -> None: ...


@pytest.mark.parametrize("questions", [8])
def test_a_run_that_was_stopped_anywhere_goes_on_to_the_same_bytes(room, tmp_path, monkeypatch, questions):
    whole, cut = _run(room, tmp_path / "whole", TERM), _run(room, tmp_path / "cut", TERM)
    _train(whole)
    with monkeypatch.context() as patch:
        patch.setattr("blocknerf.training.launchers.joint.StopSignal", lambda: _StopAfter(questions))
        with pytest.raises(KeyboardInterrupt):
            _train(cut)
    _train(cut, resume=True)
    assert _same(_files(whole), _files(cut))


@pytest.mark.parametrize("saves", [3, 5])
def test_a_run_that_was_killed_while_it_saved_goes_on_to_the_same_bytes(room, tmp_path, monkeypatch, saves):
    every_round = (TERM, "training.checkpoint_minutes=1e-9")
    whole, cut = _run(room, tmp_path / "whole", *every_round), _run(room, tmp_path / "cut", *every_round)
    _train(whole)
    left = [saves]

    def killed(write):
        def write_or_die(self):
            left[0] -= 1
            if left[0] < 0:
                raise SystemExit
            write(self)

        return write_or_die

    with monkeypatch.context() as patch:
        for name in ("prepare", "save"):
            patch.setattr(ModelCheckpoint, name, killed(getattr(ModelCheckpoint, name)))
        with pytest.raises(SystemExit):
            _train(cut)
    _train(cut, resume=True)
    assert _same(_files(whole), _files(cut))
    left_behind = [path.name for name in (CHECKPOINT, SIDE_BY_SIDE) for path in (tmp_path / "cut").rglob(f"{name}*")]
    assert left_behind == []


def test_a_neighbour_that_was_trained_before_takes_part_as_it_is(room, tmp_path):
    run = _run(room, tmp_path / "both", TERM)
    first, second = (block.id for block in run.plan.blocks)
    _train(run, joint=None, block_ids=(second,))
    before = {path: path.read_bytes() for path in run.block_folder(second).iterdir()}
    _train(run, block_ids=(first,))
    assert {path: path.read_bytes() for path in run.block_folder(second).iterdir()} == before
    plain = _run(room, tmp_path / "plain", TERM)
    _train(plain, joint=None)
    assert not _same({first: _files(run)[first]}, _files(plain))


def test_blocks_of_different_ages_do_not_begin_together(room, tmp_path, monkeypatch):
    run = _run(room, tmp_path, TERM)
    with monkeypatch.context() as patch:
        patch.setattr("blocknerf.training.launchers.joint.StopSignal", lambda: _StopAfter(5))
        with pytest.raises(KeyboardInterrupt):
            _train(run, block_ids=(run.plan.blocks[0].id,))
    with pytest.raises(UserError, match="side by side from their first step"):
        _train(run, resume=True)
    with pytest.raises(UserError, match="--side-by-side"):
        _train(run, resume=True, joint=None, block_ids=(run.plan.blocks[0].id,))


def test_jobs_and_updates_are_refused_in_a_sentence(room, tmp_path):
    with pytest.raises(UserError, match="torchrun"):
        train(room, tmp_path / "jobs", None, SMALL, jobs=2, side_by_side=True)
    with pytest.raises(UserError, match="--side-by-side and --update"):
        train(room, tmp_path / "update", None, SMALL, blocks="000", update=True, side_by_side=True)
