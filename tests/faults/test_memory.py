"""Memory that runs out, wherever it does: a sentence or a smaller step, and never a ruined file."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from blocknerf.cli.ending import what_to_do
from blocknerf.core.errors import UserError
from blocknerf.models.block_file import has_block, read_block
from blocknerf.training.run.run import Run
from tests.support.room import write_room
from tests.support.tiny_run import TINY, same_weights, tiny_run, train

MORE_STEPS = "training.max_steps=12"


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_room(tmp_path_factory.mktemp("room"), images=8)


class FailingAllocation(TorchDispatchMode):
    """The n-th operation of torch with a result of its own of `least_bytes` or more finds no memory for it."""

    def __init__(self, number: int, least_bytes: int = 256):
        super().__init__()
        self.number, self.least_bytes, self.count = number, least_bytes, 0

    def __torch_dispatch__(self, operation, types, arguments=(), options=None):
        result = operation(*arguments, **(options or {}))
        if isinstance(result, torch.Tensor) and result.nbytes >= self.least_bytes and "aten" in str(operation):
            self.count += 1
            if self.count == self.number:
                raise RuntimeError(
                    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you "
                    f"tried to allocate {result.nbytes} bytes. Error code 12 (Cannot allocate memory)"
                )
        return result


def train_failing(run: Run, number: int) -> Exception | None:
    """Trains while the n-th allocation fails; what came of it, None where a smaller step did."""
    try:
        with FailingAllocation(number):
            train(run)
    except (UserError, RuntimeError, MemoryError) as error:
        return error
    return None


def assert_explained(error: Exception | None) -> None:
    assert error is None or what_to_do(error) is not None, error


@pytest.mark.parametrize("number", [60, 700, *(pytest.param(number, marks=pytest.mark.slow) for number in (1, 1500))])
def test_an_allocation_that_fails_in_training_loses_nothing(room, tmp_path, number):
    run = tiny_run(room, tmp_path / "out", MORE_STEPS)
    assert_explained(train_failing(run, number))
    folder = run.block_folder("000")
    if has_block(folder, "latest"):
        read_block(folder, "latest")  # whole, or it says what is wrong
    train(run, resume=True)
    assert read_block(folder, "latest").meta.finished


@pytest.mark.slow
@pytest.mark.parametrize("number", range(1, 1600, 97))
def test_after_any_allocation_that_failed_training_ends_with_the_bytes_of_an_undisturbed_run(room, tmp_path, number):
    """Steps that were taken in parts add up in another order, so that only runs without any are compared."""
    undisturbed, run = tiny_run(room, tmp_path / "one", MORE_STEPS), tiny_run(room, tmp_path / "other", MORE_STEPS)
    train(undisturbed)
    error = train_failing(run, number)
    if error is not None:
        assert_explained(error)
        train(run, resume=True)
        assert same_weights(undisturbed.block_folder("000"), run.block_folder("000"))
    assert read_block(run.block_folder("000"), "latest").meta.finished


LIMITED = """
import json, resource, sys
from blocknerf.cli.commands import parse
from blocknerf.cli.main import as_program
command, megabytes = json.loads(sys.argv[1]), int(sys.argv[2])

import blocknerf.training.train_blocks, blocknerf.evaluation.evaluate, blocknerf.export.maps, blocknerf.export.mesh
import blocknerf.blocks.map, blocknerf.export.video, torch, numba
torch.ones(512, 512) @ torch.ones(512, 512)  # its threads have begun

def limited():
    with open("/proc/self/statm") as held:
        bytes_held = int(held.read().split()[0]) * resource.getpagesize()
    most = bytes_held + megabytes * 1000000
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    parse(command)

as_program(limited)
"""


def limited(command: list[str], megabytes: int) -> subprocess.CompletedProcess[str]:
    """A command that may take so much memory beyond its libraries."""
    program = [sys.executable, "-c", LIMITED, json.dumps(command), str(megabytes)]
    known = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(program, env=known, capture_output=True, text=True, timeout=600, check=False)


@pytest.fixture(scope="module")
def city(room, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("out")
    train(tiny_run(room, out))
    return out


COMMANDS = {
    "plan": ("plan", "--data-root", "ROOM", "--output-dir", "NEW", *TINY),
    "train": ("train", "--data-root", "ROOM", "--output-dir", "NEW", *TINY),
    "render": ("render", "CITY", "--path", "interpolate", "--frames", "2", "--out", "NEW/flight.mp4"),
    "evaluate": ("evaluate", "CITY"),
    "mesh": ("export", "mesh", "CITY", "--out", "NEW/mesh.ply", "--least-views", "0"),
}


@pytest.mark.slow
@pytest.mark.parametrize("megabytes", [0, 4, 16, 40, 90, 200])
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_with_little_memory_is_done_or_says_so_and_ruins_nothing(room, city, tmp_path, name, megabytes):
    places = {"ROOM": str(room), "CITY": str(city), "NEW": str(tmp_path)}
    command = [
        next((word.replace(key, place) for key, place in places.items() if key in word), word)
        for word in COMMANDS[name]
    ]
    before = {path: path.read_bytes() for path in city.rglob("*") if path.is_file() and "store" in path.parts}
    done = limited(command, megabytes)
    assert done.returncode in (0, 2), done.stderr[-3000:]
    assert "Traceback" not in done.stderr
    assert all(path.read_bytes() == content for path, content in before.items())
    assert not list(tmp_path.rglob("*.tmp"))
    if name == "train" and (tmp_path / "plan.json").exists():
        done = limited([*command, "--resume"], 100_000)
        assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture
def group():
    """A control group for memory, where this machine lets one be made."""
    groups = Path("/sys/fs/cgroup/memory")
    folder = groups / f"blocknerf_test_{os.getpid()}"
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("this machine gives no control group for memory")
    yield folder
    for _ in range(50):
        try:
            return folder.rmdir()
        except OSError:  # its last process is still leaving
            time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.parametrize("megabytes", [300, 380, 440, 500, 600])
def test_a_container_that_ends_training_for_its_memory_costs_nothing_learned(room, tmp_path, group, megabytes):
    """The system kills it, at its beginning or far into it; --resume comes to the end of an undisturbed run."""
    for name in ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes"):
        if (group / name).exists():
            (group / name).write_text(str(megabytes * 1_000_000))
    program = "import os, sys; open(sys.argv[1], 'w').write(str(os.getpid())); os.execv(sys.argv[2], sys.argv[2:])"
    settings = (*TINY, "training.max_steps=40", "training.checkpoint_minutes=1e-9")
    train_it = [sys.executable, "-m", "blocknerf", "train", "--data-root", str(room)]
    command = [*train_it, "--output-dir", str(tmp_path / "out"), *settings]
    inside = [sys.executable, "-c", program, str(group / "tasks"), *command]
    known = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(inside, env=known, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode in (0, 2, -9), done.stderr[-3000:]
    if done.returncode:
        subprocess.run([*command, "--resume"], env=known, capture_output=True, check=True, timeout=600)
    train(tiny_run(room, tmp_path / "undisturbed", *settings[len(TINY) :]))
    assert same_weights(tmp_path / "out/blocks/000", tmp_path / "undisturbed/blocks/000")
