"""Trains several blocks at the same time on this machine, each in its process."""

import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from blocknerf.blocks.plan import BlockSpec
from blocknerf.core.lock import Held
from blocknerf.core.logging import log
from blocknerf.kernels.jit.precompile import finish_compiling
from blocknerf.runtime.cores import available_cores
from blocknerf.runtime.process_group import ALONE
from blocknerf.runtime.signals import StopSignal, leave_interrupts_to_parent
from blocknerf.scene.store import ImageStore
from blocknerf.training.block.trainer import BlockResult, Progress
from blocknerf.training.launchers.launcher import Report
from blocknerf.training.launchers.sequential import train_on_all_cores
from blocknerf.training.launchers.worker import train_in_worker
from blocknerf.training.launchers.worker_pool import WAIT_S, Failure, wait_for
from blocknerf.training.run.order import longest_first, minutes_of
from blocknerf.training.run.run import Run, open_store
from blocknerf.training.run.waves import train_in_waves


class ProcessLauncher:
    """A `Launcher`: up to `jobs` blocks at the same time, the longest first."""

    group = ALONE

    def __init__(self, jobs: int):
        self.jobs = jobs

    def train(self, run: Run, blocks: list[BlockSpec], report: Report, locks: Sequence[Held] = ()) -> list[BlockResult]:
        store = open_store(run, progress=True)
        return train_in_waves(run, blocks, lambda wave: self._train_wave(run, wave, store, report, locks))

    def _train_wave(
        self, run: Run, blocks: list[BlockSpec], store: ImageStore, report: Report, locks: Sequence[Held]
    ) -> list[BlockResult]:
        if len(blocks) <= 1:
            return train_on_all_cores(run, blocks, store, report)
        blocks, jobs = longest_first(blocks, minutes_of(run, blocks)), min(self.jobs, len(blocks))
        log.info("%d blocks at a time, each on %d of %d cores.", jobs, available_cores() // jobs, available_cores())
        finish_compiling()
        pool = ProcessPool(replace(run, at_once=jobs), blocks, jobs, locks)
        return wait_for(pool, run, [block.id for block in blocks], report)


class ProcessPool:
    """A `WorkerPool`: `jobs` processes at the same time, each with its share of the cores. Blocks begin in order."""

    def __init__(self, run: Run, blocks: list[BlockSpec], jobs: int, locks: Sequence[Held] = ()):
        """`locks` are the locks of the blocks. A process that outlives its parent holds them until it has saved."""
        self._run, self._jobs, self._locks = run, jobs, list(locks)
        self._threads = max(1, available_cores() // jobs)
        self._waiting, self._running = list(blocks), dict[str, _Worker]()

    def is_busy(self) -> bool:
        return bool(self._waiting or self._running)

    def listen(self) -> Iterator[tuple[str, Progress | BlockResult | Failure]]:
        while self._waiting and len(self._running) < self._jobs:
            block = self._waiting.pop(0)
            run = replace(self._run, devices=(self._idlest(),))
            self._running[block.id] = _Worker.start(run, block, self._threads, self._locks)
        wait([worker.process.sentinel for worker in self._running.values()], WAIT_S)
        for block_id, worker in list(self._running.items()):
            has_ended = not worker.process.is_alive()  # checked before its last messages are read
            for message in worker.read():
                yield block_id, message
            if has_ended:
                worker.process.join()
                worker.messages.close()
                del self._running[block_id]
                if worker.process.exitcode != 0:
                    yield block_id, Failure(_why_it_ended(worker.process.exitcode))

    def _idlest(self) -> str:
        """The device with the fewest blocks, the first of several."""
        return min(self._run.devices, key=[worker.device for worker in self._running.values()].count)

    def stop(self) -> None:
        processes = [worker.process for worker in self._running.values()]
        for process in processes:
            if process.pid is not None and process.is_alive():
                os.kill(process.pid, signal.SIGTERM)
        for process in processes:
            process.join()


def _why_it_ended(code: int | None) -> str:
    """Why a process ended that sent no result to its parent."""
    ended = f"its process ended with code {code}."
    if code == -signal.SIGKILL:
        return f"{ended} The system does this when memory runs out: train fewer blocks at the same time (--jobs)."
    if code is not None and code < 0:
        return f"{ended} The signal {signal.Signals(-code).name} ended it: a fault of a library or of this machine."
    return f"{ended} See its message above."


@dataclass(frozen=True, slots=True)
class _Worker:
    """A process that trains one block. It has a separate pipe, so that killing it does not silence the others."""

    process: BaseProcess
    messages: Connection
    device: str

    @classmethod
    def start(cls, run: Run, block: BlockSpec, threads: int, locks: list[Held]) -> "_Worker":
        context = multiprocessing.get_context("spawn")
        messages, channel = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(run, block, threads, channel, locks), name=block.id)
        process.start()
        channel.close()  # only the process holds that end, so that its death closes the pipe
        return cls(process, messages, run.devices[0])

    def read(self) -> Iterator[Progress | BlockResult | Failure]:
        """Messages since the last call. An incomplete message of a process that died is skipped."""
        try:
            while self.messages.poll():
                yield self.messages.recv()
        except (EOFError, OSError):
            return


def _work(run: Run, block: BlockSpec, threads: int, channel: Connection, locks: list[Held]) -> None:
    with leave_interrupts_to_parent() as stop:
        report = partial(_send_progress, channel, stop)
        end = train_in_worker(nullcontext(run), block, threads, lambda: stop.requested, report)
        if end is not None:
            channel.send(end)


def _send_progress(channel: Connection, stop: StopSignal, progress: Progress) -> None:
    """Sends progress. If the pipe is broken, the parent was killed, and the block should save and stop."""
    try:
        channel.send(progress)
    except BrokenPipeError:
        stop.requested = True
