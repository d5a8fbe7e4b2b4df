"""Trains blocks as Ray tasks, on all machines of a cluster. No other module uses ray.

If the process or machine of a task dies, Ray starts it again where there is room, and it resumes from its last
checkpoint. A board on the command's machine receives the progress of blocks, and tells them to stop.
"""

import asyncio
import logging
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from blocknerf.blocks.cost import BlockCost, cuda_devices, estimates
from blocknerf.blocks.plan import BlockSpec
from blocknerf.core.config.distributed import DistributedConfig
from blocknerf.core.errors import UserError
from blocknerf.core.extras import Extra
from blocknerf.core.lock import Held
from blocknerf.core.logging import log
from blocknerf.runtime.devices import AUTO, devices_of
from blocknerf.runtime.process_group import ALONE
from blocknerf.scene.part import relocated
from blocknerf.training.block.trainer import BlockResult, Progress
from blocknerf.training.launchers.launcher import Report
from blocknerf.training.launchers.worker import train_in_worker
from blocknerf.training.launchers.worker_pool import WAIT_S, Failure, wait_for
from blocknerf.training.run.order import longest_first, minutes_of
from blocknerf.training.run.run import Run, open_store
from blocknerf.training.run.staging import staged_run, subset_for_block
from blocknerf.training.run.waves import train_in_waves

if TYPE_CHECKING:
    import ray
    import ray.exceptions
    from ray.util import scheduling_strategies
else:
    ray = Extra("ray", "ray", "--launcher ray")
    scheduling_strategies = Extra("ray.util.scheduling_strategies", "ray", "--launcher ray")

DEATHS = 20
"""How often the machine or process of a block may die until the block has failed."""
QUEUED = 4
"""Tasks that wait for room at the same time. Few, because Ray begins them in any order; several, because one may need
more memory than is free."""
MOST_CORES = 8
"""Maximum number of cores for a block, if the user does not choose; more are of little use."""
ANSWER_S = 10.0


@dataclass(frozen=True, slots=True)
class RayCluster:
    """A Ray cluster, and its resources for each block."""

    address: str | None = None
    """As in ray.init; None: the cluster to which this machine belongs, or this machine alone."""
    cores: int | None = None
    """Cores of each block; None: those of the cluster divided by the number of blocks."""
    use_gpus: bool = True
    """Whether each block gets a GPU, if the cluster has any."""


class RayLauncher:
    """A `Launcher`: blocks are trained separately, the longest first, as many at a time as the cluster has room for."""

    group = ALONE

    def __init__(self, cluster: RayCluster):
        self.cluster = cluster

    def train(self, run: Run, blocks: list[BlockSpec], report: Report, locks: Sequence[Held] = ()) -> list[BlockResult]:
        """Also raises UserError for an update, and if there is no cluster at the address."""
        if run.update:
            raise UserError("--update needs --launcher local: Ray trains blocks anew or from a checkpoint.")
        return train_in_waves(run, blocks, lambda wave: self._train_wave(run, wave, report))

    def _train_wave(self, run: Run, blocks: list[BlockSpec], report: Report) -> list[BlockResult]:
        if not blocks:
            return []
        blocks = longest_first(blocks, minutes_of(run, blocks))
        with ray_tasks(run, blocks, self.cluster) as pool:
            if not run.is_on_urls:  # all machines map the same store; with URLs, each decodes what it needs
                open_store(run, progress=True)
            return wait_for(pool, run, [block.id for block in blocks], report)


@contextmanager
def ray_tasks(run: Run, blocks: list[BlockSpec], cluster: RayCluster) -> Iterator["RayTasks"]:
    """Connects to the cluster while blocks are trained. Raises UserError if there is none at its address."""
    is_ours = not ray.is_initialized()
    if is_ours:
        _connect(cluster.address)
    try:
        yield RayTasks(run, blocks, cluster)
    finally:
        if is_ours:
            ray.shutdown()


def _connect(address: str | None) -> None:
    try:
        if address is not None and address not in ("auto", "local"):
            _require_listener(address)
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        where = "here" if address is None else f"at {address}"
        raise UserError(
            f"There is no Ray cluster {where} ({error}). Start one with `ray start --head`. Then run this command on "
            "one of its machines, with --address HOST:PORT of the head."
        ) from error


def _require_listener(address: str) -> None:
    """Raises OSError or ValueError soon; Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    socket.create_connection((host, int(port)), timeout=ANSWER_S).close()


class RayTasks:
    """A `WorkerPool`: hands blocks to Ray in order, with the resources that each needs. Ray chooses the machine."""

    def __init__(self, run: Run, blocks: list[BlockSpec], cluster: RayCluster):
        self._run = _at_absolute_paths(run)
        self._cores = cluster.cores or cores_of_block(_machines(), len(blocks))
        self._gpus = gpus_of_block(_machines(), run.config.distributed, cluster.use_gpus)
        self._sent_to_all = None if run.is_on_urls else ray.put(self._run)
        self._waiting = list(zip(blocks, estimates(blocks, run.scene, run.config), strict=True))
        self._queued: set[str] = set()
        self._tasks: dict[Any, str] = {}
        node_id = ray.get_runtime_context().get_node_id()
        this_machine = scheduling_strategies.NodeAffinitySchedulingStrategy(node_id, soft=False)
        options = {"num_cpus": 0, "max_concurrency": len(blocks) + 100, "scheduling_strategy": this_machine}
        self._board: Any = ray.remote(_Board).options(**options).remote()

    def is_busy(self) -> bool:
        return bool(self._waiting or self._tasks)

    def listen(self) -> Iterator[tuple[str, Progress | BlockResult | Failure]]:
        while self._waiting and len(self._queued) < QUEUED:
            self._hand_over(*self._waiting.pop(0))
        ended, _ = ray.wait(list(self._tasks), num_returns=len(self._tasks), timeout=WAIT_S)
        starts, news = ray.get(self._board.news.remote())
        for block_id, where, times in starts:
            self._queued.discard(block_id)
            log.info("Block %s begins %son %s.", block_id, "again " if times > 1 else "", where)
        yield from news.items()
        for task in ended:
            block_id = self._tasks.pop(task)
            self._queued.discard(block_id)
            result = _result(task)
            if result is not None:
                yield block_id, result

    def stop(self) -> None:
        """Blocks that still wait for room never begin; waits for those that have begun."""
        begun = ray.get(self._board.stop.remote())
        running = [task for task, block_id in self._tasks.items() if block_id in begun]
        if running:
            ray.wait(running, num_returns=len(running))

    def _hand_over(self, block: BlockSpec, cost: BlockCost) -> None:
        needs = {
            "num_cpus": self._cores,
            "num_gpus": self._gpus,
            "memory": int(1e9 * cost.memory_gb),
        }
        sent = self._sent_to_all or ray.put(subset_for_block(self._run, block))
        task = ray.remote(max_calls=1)(_work).options(name=f"block {block.id}", max_retries=DEATHS, **needs)
        self._tasks[task.remote(sent, block, self._cores, self._board)] = block.id
        if have_room(_machines(), needs):
            self._queued.add(block.id)
        else:  # it must not block others
            log.warning(
                "Block %s needs %d cores, %d GPUs and %.1f GB of memory, but no machine of the cluster has them. It "
                "waits for one that does.",
                block.id,
                needs["num_cpus"],
                needs["num_gpus"],
                cost.memory_gb,
            )


def cores_of_block(machines: Sequence[dict[str, float]], blocks: int) -> int:
    """The cluster's cores divided by the number of blocks: at least 1, at most those of the largest machine."""
    cores = [int(machine.get("CPU", 0)) for machine in machines]
    return max(1, min(sum(cores) // blocks, max(cores, default=1), MOST_CORES))


def gpus_of_block(machines: Sequence[dict[str, float]], config: DistributedConfig, use_gpus: bool) -> int:
    """As many as distributed.device_map names; otherwise one, if any machine has one and blocks may use it."""
    if config.device_map:
        return cuda_devices(config)
    return int(use_gpus and any(machine.get("GPU", 0) >= 1 for machine in machines))


def have_room(machines: Sequence[dict[str, float]], needs: dict[str, int]) -> bool:
    """Whether any machine, if it is idle, has what a task needs."""
    wanted = {"CPU": needs["num_cpus"], "GPU": needs["num_gpus"], "memory": needs["memory"]}
    return any(all(machine.get(kind, 0) >= number for kind, number in wanted.items()) for machine in machines)


def _machines() -> list[dict[str, float]]:
    """Resources of each machine of the cluster, as Ray counts them."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _at_absolute_paths(run: Run) -> Run:
    """Workers have another working directory."""
    return replace(run, scene=relocated(run.scene, run.scene.root.resolve()), output_dir=run.output_dir.resolve())


def _result(task: Any) -> BlockResult | Failure | None:
    """The result of a task; None if it was stopped."""
    try:
        return ray.get(task)
    except ray.exceptions.RayTaskError as error:  # a fault of the program, so the traceback is the message
        return Failure(str(error))
    except ray.exceptions.RayError as error:
        return Failure(f"its process or machine died {DEATHS + 1} times, or Ray gave up ({error}).")


class _Board:
    """Receives the progress of all blocks, and tells them to stop. An actor on the command's machine."""

    def __init__(self) -> None:
        self._begun: dict[str, int] = {}
        self._starts: list[tuple[str, str, int]] = []
        self._news: dict[str, Progress] = {}
        self._stopped = asyncio.Event()

    async def begin(self, block_id: str, where: str) -> bool:
        """Whether the block should be trained at all."""
        if not self._stopped.is_set():
            self._begun[block_id] = self._begun.get(block_id, 0) + 1
            self._starts.append((block_id, where, self._begun[block_id]))
        return not self._stopped.is_set()

    async def tell(self, block_id: str, progress: Progress) -> None:
        self._news[block_id] = progress

    async def news(self) -> tuple[list[tuple[str, str, int]], dict[str, Progress]]:
        """News since the last call: (block, machine, how often it has begun), and progress by block."""
        starts, news, self._starts, self._news = self._starts, self._news, [], {}
        return starts, news

    async def stop(self) -> list[str]:
        """Tells all blocks to stop; returns those that have begun."""
        self._stopped.set()
        return list(self._begun)

    async def stopped(self) -> None:
        """Returns when all blocks should stop."""
        await self._stopped.wait()


def _work(run: Run, block: BlockSpec, threads: int, board: Any) -> BlockResult | Failure | None:
    """The task of one block. Returns None if it was stopped."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the command handles Ctrl-C and tells the board
    if not ray.get(board.begin.remote(block.id, socket.gethostname())):
        return None
    asked = _Asked(board.stopped.remote())
    devices = devices_of(AUTO)[:1] if ray.get_gpu_ids() else run.devices  # it sees only its own
    staged = staged_run(replace(run, devices=devices))
    return train_in_worker(staged, block, threads, asked, partial(board.tell.remote, block.id))


@dataclass
class _Asked:
    """Whether the board said stop, or is gone. Checked between steps, so rarely that it costs nothing."""

    stopped: Any
    next_s: float = 0.0

    def __call__(self) -> bool:
        if time.monotonic() < self.next_s:
            return False
        self.next_s = time.monotonic() + WAIT_S
        return bool(ray.wait([self.stopped], timeout=0)[0])
