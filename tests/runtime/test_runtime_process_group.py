"""What processes tell each other, with two of them over gloo; and with one, where nothing changes."""

import multiprocessing
import socket

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from blocknerf.core.errors import UserError
from blocknerf.runtime.process_group import ALONE, ENVIRONMENT, ProcessGroup


def test_alone_everything_stays_as_it_is():
    tensor, flags = torch.tensor([1.0, 2.0]), torch.tensor([0, 1], dtype=torch.uint8)
    ALONE.average([tensor])
    ALONE.unite(flags)
    ALONE.wait()
    assert tensor.tolist() == [1.0, 2.0]
    assert flags.tolist() == [0, 1]
    assert ALONE.of_first(3.0, 4.5) == [3.0, 4.5]
    assert ALONE.any(True)
    assert not ALONE.any(False)
    assert ALONE.gather(tensor)[0] is tensor
    assert ALONE.is_first
    assert ALONE.share(7) == slice(0, 7)


def test_shares_are_all_there_is():
    things = list(range(12))
    parts = [things[ProcessGroup(rank, 3).share(12)] for rank in range(3)]
    assert sum(parts, []) == things


def test_without_the_environment_a_sentence_says_what_to_run(monkeypatch):
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match="torchrun"):
        ProcessGroup.join("gloo")


def test_a_message_holds_tensors_of_one_device(monkeypatch):
    """Those of two cannot be put together, and nccl and gloo each carry their own."""
    carried = []
    monkeypatch.setattr("torch.distributed.all_reduce", lambda message: carried.append((message.device, len(message))))
    with FakeTensorMode():
        tensors = [torch.zeros(size, device=f"cpu:{device}") for size, device in ((2, 1), (3, 2), (4, 1))]
        ProcessGroup(0, 2).average(tensors)
    assert carried == [(torch.device("cpu:1"), 6), (torch.device("cpu:2"), 3)]


def _member(rank: int, port: int, results) -> None:
    import os

    os.environ.update(RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    group = ProcessGroup.join("nccl")  # gloo stands in
    ones, matrix = torch.full((3,), float(rank)), torch.full((2, 2), 10.0 * rank)
    flags = torch.tensor([rank, 0], dtype=torch.uint8)
    group.average([ones, matrix])
    group.unite(flags)
    gathered = [part.tolist() for part in group.gather(torch.tensor([rank]))]
    answers = (
        ones.tolist(),
        matrix.tolist(),
        flags.tolist(),
        group.of_first(rank + 0.25),
        group.any(rank == 1),
        gathered,
    )
    results.put((rank, answers))
    if rank == 0:
        try:
            group.wait()
            group.wait()
        except UserError as error:
            results.put((0, str(error)))
    else:
        group.wait()
        results.close()
        results.join_thread()
        os._exit(0)  # as one that died


def test_two_processes_agree_and_one_notices_that_the_other_died():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    members = [context.Process(target=_member, args=(rank, port, results)) for rank in range(2)]
    for member in members:
        member.start()
    answers = [results.get(timeout=60) for _ in range(3)]
    for member in members:
        member.join(30)
    values = {rank: what for rank, what in answers if isinstance(what, tuple)}
    assert values[0] == values[1]
    assert values[0] == ([0.5] * 3, [[5.0, 5.0]] * 2, [1, 0], [0.25], True, [[0], [1]])
    (message,) = (what for _, what in answers if isinstance(what, str))
    assert "waits for one that has ended" in message
