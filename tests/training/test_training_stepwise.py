"""A step at a time: the same bytes as in one go, whoever has the loop."""

from pathlib import Path

import pytest

from blocknerf.core.errors import UserError
from blocknerf.models.block_file import read_block_meta
from blocknerf.scene.store import ImageStore
from blocknerf.training.run.run import Run
from blocknerf.training.run.training_iterator import TrainingIterator
from tests.support.room import write_room
from tests.support.tiny_run import tiny_run, train

TWO_BLOCKS = ("block_manager.max_blocks=9", "block_manager.block_size=2.2", "training.max_steps=10")


@pytest.fixture(scope="module")
def room(tmp_path_factory) -> Path:
    return write_room(tmp_path_factory.mktemp("room"), images=8, width=16, height=12)


def stepwise(run: Run) -> TrainingIterator:
    return TrainingIterator(run, ImageStore.open(run.scene, 1, run.output_dir / "store", progress=False))


def weights(run: Run) -> dict[str, str]:
    return {block.id: read_block_meta(run.block_folder(block.id), "latest").weights.sha256 for block in run.plan.blocks}


@pytest.fixture(scope="module")
def in_one_go(room, tmp_path_factory) -> dict[str, str]:
    run = tiny_run(room, tmp_path_factory.mktemp("whole"), *TWO_BLOCKS)
    train(run)
    return weights(run)


def test_steps_make_the_blocks_of_one_go(room, tmp_path, in_one_go):
    run = tiny_run(room, tmp_path, *TWO_BLOCKS)
    steps = stepwise(run)
    assert len(run.plan.blocks) > 1
    assert (steps.step, steps.total_steps) == (0, 10 * len(run.plan.blocks))
    while steps.step < steps.total_steps:
        assert float(steps.next()["mse"]) > 0
    assert weights(run) == in_one_go


@pytest.mark.parametrize("stop", [0, 5, 10, 13])
def test_a_run_that_was_left_goes_on_to_the_same_bytes(room, tmp_path, in_one_go, stop):
    run = tiny_run(room, tmp_path, *TWO_BLOCKS)
    steps = stepwise(run)
    for _ in range(stop):
        steps.next()
    steps.save()
    again = stepwise(run)
    assert (again.step, again.total_steps) == (stop, steps.total_steps)
    while again.step < again.total_steps:
        again.next()
    assert weights(run) == in_one_go


def test_no_step_is_behind_the_last(room, tmp_path):
    steps = stepwise(tiny_run(room, tmp_path, "training.max_steps=1"))
    steps.next()
    with pytest.raises(UserError, match="All 1 steps of this run are done"):
        steps.next()


def test_a_clock_has_no_number_of_steps(room, tmp_path):
    with pytest.raises(UserError, match=r"Omit it and set training\.max_steps"):
        stepwise(tiny_run(room, tmp_path, "training.max_minutes=1"))
