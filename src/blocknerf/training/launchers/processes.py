"""Blocks at a time on this machine, each in a process of its own."""

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
from blocknerf.runtime.signals import StopSignal, leave_interrupts_to_parent
from blocknerf.runtime.threads import available_cores
from blocknerf.training.launchers.launcher import WAIT_S, Failure
from blocknerf.training.launchers.worker import work
from blocknerf.training.one_block import Run
from blocknerf.training.trainer import BlockResult, Progress


class Processes:
    """A `Launcher`: `jobs` processes at a time, each with its share of the cores; blocks begin in their order."""

    def __init__(self, run: Run, blocks: list[BlockSpec], jobs: int, held: Sequence[Held] = ()):
        """`held` are locks on the blocks: a process that outlives its parent holds them until it has saved."""
        self._run, self._jobs, self._held = run, jobs, list(held)
        self._threads = max(1, available_cores() // jobs)
        self._waiting, self._running = list(blocks), dict[str, _Worker]()

    def is_busy(self) -> bool:
        return bool(self._waiting or self._running)

    def listen(self) -> Iterator[tuple[str, Progress | BlockResult | Failure]]:
        while self._waiting and len(self._running) < self._jobs:
            block = self._waiting.pop(0)
            run = replace(self._run, devices=(self._idlest(),))
            self._running[block.id] = _Worker.start(run, block, self._threads, self._held)
        wait([worker.process.sentinel for worker in self._running.values()], WAIT_S)
        for block_id, worker in list(self._running.items()):
            has_ended = not worker.process.is_alive()  # asked before its last words are read
            for said in worker.read():
                yield block_id, said
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
    """Of a process that said nothing to its parent."""
    said = f"its process ended with code {code}."
    if code == -signal.SIGKILL:
        return f"{said} The system ends a process so where memory runs out: try fewer blocks at once (--jobs)."
    if code is not None and code < 0:
        return f"{said} The signal {signal.Signals(-code).name} ended it: a fault of a library or of this machine."
    return f"{said} What it said stands above."


@dataclass(frozen=True, slots=True)
class _Worker:
    """A process that trains one block, and what it says: a pipe of its own, so that one killed silences no other."""

    process: BaseProcess
    messages: Connection
    device: str

    @classmethod
    def start(cls, run: Run, block: BlockSpec, threads: int, held: list[Held]) -> "_Worker":
        context = multiprocessing.get_context("spawn")
        messages, said = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(run, block, threads, said, held), name=block.id)
        process.start()
        said.close()  # the process alone holds that end, so that its death ends the pipe
        return cls(process, messages, run.devices[0])

    def read(self) -> Iterator[Progress | BlockResult | Failure]:
        """What has been said since; half a message of one that died is none."""
        try:
            while self.messages.poll():
                yield self.messages.recv()
        except (EOFError, OSError):
            return


def _work(run: Run, block: BlockSpec, threads: int, said: Connection, held: list[Held]) -> None:
    with leave_interrupts_to_parent() as stop:
        end = work(nullcontext(run), block, threads, lambda: stop.requested, partial(_send_progress, said, stop))
        if end is not None:
            said.send(end)


def _send_progress(said: Connection, stop: StopSignal, progress: Progress) -> None:
    """Where nobody listens any more, the parent was killed: the block is to save and stop."""
    try:
        said.send(progress)
    except BrokenPipeError:
        stop.requested = True
