"""Blocks that learn to agree with neighbours trained before them: in which order, and to what bytes."""

import json
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import torch

from blocknerf.blocks.output import plan_scene
from blocknerf.blocks.plan import BlockSpec, Plan, write_plan
from blocknerf.core.config.load import load_config
from blocknerf.core.seeds import generator
from blocknerf.models.block_file import read_block
from blocknerf.training.block.losses.terms import consistency_loss
from blocknerf.training.joint.borders import borders_of, render_shared, with_block_slots
from blocknerf.training.launchers.choose import choose_launcher
from blocknerf.training.run.one_block import read_model
from blocknerf.training.run.run import Run, open_store
from blocknerf.training.run.waves import in_waves, wave_of_each
from blocknerf.training.train_blocks import train_blocks
from tests.support.room import write_room
from tests.support.small_field import SMALL_HASH

SMALL = (
    "block_manager.block_size=2.5",
    "block_manager.overlap_ratio=0.5",
    "block_manager.min_images_per_block=6",
    *SMALL_HASH,
    "dataset.batch_size=128",
    "dataset.test_every=0",
    "training.max_steps=12",
    "training.lr_warmup_steps=2",
    "training.use_visibility_network=false",
    "validation.num_val_images=0",
    "logging.log_freq=1",
    "logging.use_tensorboard=false",
    "distributed.exchange_every=5",
)
TERM = "training.consistency_loss_weight=5"


@pytest.fixture(scope="module")
def room(tmp_path_factory) -> Path:
    return write_room(tmp_path_factory.mktemp("room"))


def _run(room: Path, out: Path, *overrides: str) -> Run:
    """Three blocks of the room in a row, each with a cube that holds its walls."""
    config, scene, plan = plan_scene(load_config(None, [*SMALL, *overrides]), room, out)
    first, middle, last = (replace(block, radius_m=8.0) for block in plan.blocks[:3])
    blocks = (
        replace(first, neighbours=(middle.id,)),
        replace(middle, neighbours=(first.id, last.id)),
        replace(last, neighbours=(middle.id,)),
    )
    row = replace(plan, blocks=blocks)
    write_plan(out / "plan.json", row)
    return Run(config, scene, row, out)


def _train(run: Run, *block_ids: str, jobs: int = 1, resume: bool = False) -> None:
    train_blocks(run, block_ids, resume, launcher=choose_launcher(run, (), jobs))


def _files(run: Run) -> dict[str, dict[str, torch.Tensor]]:
    return {block.id: read_block(run.block_folder(block.id), "latest").tensors for block in run.plan.blocks}


def _same(tensors: dict[str, torch.Tensor], other_tensors: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(tensor, other_tensors[name]) for name, tensor in tensors.items())


def _terms(run: Run, block_id: str) -> set[str]:
    lines = (run.block_folder(block_id) / "metrics.jsonl").read_text().splitlines()
    return {name for line in lines for name in json.loads(line)}


@pytest.mark.parametrize("seed", range(10))
def test_no_two_neighbours_are_of_one_wave_and_no_wave_could_be_spared(seed):
    rng = generator(seed, "links")
    linked = torch.rand(12, 12, generator=rng) < 0.25
    names = [f"{number:03d}" for number in range(12)]
    blocks = tuple(
        BlockSpec(
            name,
            (0.0, 0.0, 0.0),
            1.0,
            (0.0, 0.0, 0.0),
            (),
            (),
            tuple(n for n, on in zip(names, row, strict=True) if on and n != name),
        )
        for name, row in zip(names, linked.tolist(), strict=True)
    )  # said by one of two neighbours now and then, as plans from elsewhere may
    plan = Plan("s", "c", blocks)
    wave = wave_of_each(plan)
    for block in blocks:
        assert all(wave[block.id] != wave[neighbour] for neighbour in block.neighbours)
        near = {*block.neighbours, *(other.id for other in blocks if block.id in other.neighbours)}
        assert set(range(wave[block.id])) <= {wave[name] for name in near}


def test_blocks_keep_their_order_within_waves_and_are_of_one_where_none_are_compared(room, tmp_path):
    for weight, expected in ((0, [(0, 1, 2)]), (1, [(0, 2), (1,)])):
        run = _run(room, tmp_path / str(weight), f"training.consistency_loss_weight={weight}")
        waves = in_waves(run.plan, run.plan.blocks, run.config.training)
        assert waves == [[run.plan.blocks[number] for number in numbers] for numbers in expected]


def test_the_later_block_is_drawn_to_its_neighbours_and_the_earlier_ones_are_as_without(room, tmp_path):
    runs = [_run(room, tmp_path / name, *term) for name, term in (("without", ()), ("with", (TERM,)))]
    for run in runs:
        _train(run)
    without, with_term = map(_files, runs)
    first, middle, last = without
    assert _same(without[first], with_term[first])
    assert _same(without[last], with_term[last])
    assert not _same(without[middle], with_term[middle])
    assert [["loss/consistency" in _terms(run, name) for name in without] for run in runs] == [
        [False] * 3,
        [False, True, False],
    ]


def test_any_worker_in_any_order_trains_the_same_bytes(room, tmp_path, caplog):
    whole, spread, singly = (_run(room, tmp_path / name, TERM) for name in ("whole", "spread", "singly"))
    first, middle, last = (block.id for block in whole.plan.blocks)
    _train(whole)
    _train(spread, jobs=2)
    for block_id in (last, first, middle):
        _train(singly, block_id)
    assert "is not trained" not in caplog.text
    for block_id, other in product((first, middle, last), (spread, singly)):
        assert _same(_files(whole)[block_id], _files(other)[block_id])


def test_a_block_whose_neighbours_are_not_trained_says_so(room, tmp_path, caplog):
    run = _run(room, tmp_path / "run", TERM)
    first, middle, last = (block.id for block in run.plan.blocks)
    _train(run, last)
    _train(run, middle)
    assert f"Block {middle} cannot learn to agree with block {first}, which is not trained" in caplog.text
    assert f"Block {middle} learns to agree with block {last}" in caplog.text


@pytest.mark.parametrize("questions", [3, 17])
def test_a_run_that_was_stopped_resumes_to_the_same_bytes(room, tmp_path, monkeypatch, questions):
    whole, cut = (_run(room, tmp_path / name, TERM) for name in ("whole", "cut"))
    _train(whole)
    left = [questions]

    class StopAfter:
        @property
        def requested(self) -> bool:
            left[0] -= 1
            return left[0] < 0

        def __enter__(self):
            return self

        def __exit__(self, *error) -> None: ...

    with monkeypatch.context() as patch:
        patch.setattr("blocknerf.training.launchers.sequential.StopSignal", StopAfter)
        with pytest.raises(KeyboardInterrupt):
            _train(cut)
    _train(cut, resume=True)
    assert all(_same(tensors, _files(cut)[block_id]) for block_id, tensors in _files(whole).items())


def test_the_difference_on_shared_rays_falls(room, tmp_path):
    differences = []
    for name, weight in (("without", 0.0), ("with", 5.0)):
        longer = ("training.max_steps=60", "dataset.batch_size=256")
        run = _run(room, tmp_path / name, f"training.consistency_loss_weight={weight}", *longer)
        _train(run)
        store = open_store(run, progress=False)
        models = {block.id: read_model(run, block.id) for block in run.plan.blocks}
        total = 0.0
        for border in borders_of(run.plan.blocks, (), store):
            rays = border.draw(store, 1000, 0, 10_000)
            pair = [models[block.id] for block in (border.first, border.second)]
            rendered = [render_shared(model, with_block_slots(rays, border, model.image_ids)) for model in pair]
            (one, one_m), (other, other_m) = ((seen[:, :3], seen[:, 3] / 8.0) for seen in rendered)
            total += float(consistency_loss(one, one_m, other, other_m, torch.ones(len(rays))))
        differences.append(total)
    without, with_term = differences
    assert with_term < 0.9 * without
