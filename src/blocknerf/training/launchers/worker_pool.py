"""Workers that train blocks in other processes: their progress is reported, and all can be stopped."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from blocknerf.core.logging import log
from blocknerf.runtime.signals import StopSignal
from blocknerf.training.block.trainer import BlockResult, Progress
from blocknerf.training.launchers.launcher import Report, raise_failures
from blocknerf.training.run.run import Run

WAIT_S = 0.5
"""Seconds between two checks of blocks in training."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a block failed."""

    reason: str


@runtime_checkable
class WorkerPool(Protocol):
    """Trains the blocks with which it was created."""

    def is_busy(self) -> bool:
        """Whether any block is neither finished nor failed."""
        ...

    def listen(self) -> Iterable[tuple[str, Progress | BlockResult | Failure]]:
        """News of blocks since the last call, by id; waits WAIT_S for them."""
        ...

    def stop(self) -> None:
        """Tells all blocks to save and stop, and waits until they have."""
        ...


def wait_for(pool: WorkerPool, run: Run, block_ids: list[str], report: Report) -> list[BlockResult]:
    """Waits for `block_ids`, all blocks of `pool`.

    Raises UserError at the end if any has failed; KeyboardInterrupt if the user stops the command, after all are saved.
    """
    results: list[BlockResult] = []
    failed: dict[str, str] = {}
    for block_id in block_ids:
        report(block_id, None)
    with StopSignal() as stop:
        while pool.is_busy():
            if stop.requested:
                log.info("Saving the blocks in training. Press Ctrl-C again to stop immediately.")
                pool.stop()
                raise KeyboardInterrupt
            for block_id, news in pool.listen():
                if isinstance(news, Progress):
                    report(block_id, news)
                elif isinstance(news, BlockResult):
                    results.append(news)
                else:
                    failed.setdefault(block_id, news.reason)
    raise_failures(run, failed, len(block_ids))
    return results
