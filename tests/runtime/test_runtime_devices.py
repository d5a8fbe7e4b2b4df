"""Which devices a name stands for, and how blocks are spread over several."""

from types import SimpleNamespace

import pytest
import torch

from blocknerf.cli.train import _devices
from blocknerf.core.errors import UserError
from blocknerf.runtime.devices import devices_of
from blocknerf.training.launchers.processes import ProcessPool


@pytest.fixture
def two_devices(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


def test_without_a_device_all_is_done_by_the_processor(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert devices_of("auto") == devices_of("cpu") == ("cpu",)
    for name in ("cuda", "cuda:0", "gpu", ""):
        with pytest.raises(UserError, match=f"--device {name}: this machine has cpu. Give one of these"):
            devices_of(name)


def test_a_device_that_is_there_is_used_without_asking(two_devices):
    assert devices_of("auto") == devices_of("cuda") == ("cuda:0", "cuda:1")
    assert devices_of("cuda:1") == ("cuda:1",)
    assert devices_of("cpu") == ("cpu",)
    with pytest.raises(UserError, match="has cpu, cuda:0, cuda:1"):
        devices_of("cuda:2")


def test_processes_that_train_one_block_take_a_device_each(two_devices, monkeypatch):
    assert _devices("auto", distributed=False, side_by_side=False) == ("cuda:0", "cuda:1")
    for rank, device in (("0", "cuda:0"), ("1", "cuda:1"), ("2", "cuda:0")):
        monkeypatch.setenv("LOCAL_RANK", rank)
        assert _devices("auto", distributed=True, side_by_side=False) == (device,)
        assert _devices("cpu", distributed=True, side_by_side=False) == ("cpu",)


@pytest.mark.parametrize(
    ("processes", "expected"),
    [(1, [("cuda:0", "cuda:1")]), (2, [("cuda:0",), ("cuda:1",)]), (3, [("cuda:0",), ("cuda:1",), ("cuda:0",)])],
)
def test_processes_side_by_side_share_the_devices_of_their_machine(two_devices, monkeypatch, processes, expected):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    for rank, devices in enumerate(expected):
        monkeypatch.setenv("LOCAL_RANK", str(rank))
        assert _devices("auto", distributed=False, side_by_side=True) == devices
        assert _devices("auto", distributed=False, side_by_side=False) == ("cuda:0", "cuda:1")


def test_a_block_goes_to_the_device_that_has_the_fewest():
    launcher, taken = ProcessPool.__new__(ProcessPool), []
    launcher._run = SimpleNamespace(devices=("cuda:0", "cuda:1"))  # pyright: ignore[reportAttributeAccessIssue]
    launcher._running = {}
    for number in range(4):
        device = launcher._idlest()
        taken.append(device)
        launcher._running[str(number)] = SimpleNamespace(device=device)  # pyright: ignore[reportArgumentType]
    assert taken == ["cuda:0", "cuda:1", "cuda:0", "cuda:1"]
    del launcher._running["1"]
    assert launcher._idlest() == "cuda:1"
