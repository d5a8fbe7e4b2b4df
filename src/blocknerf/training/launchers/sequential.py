"""Trains blocks one after the other in this process, with all its cores."""

from collections.abc import Sequence
from functools import partial

from blocknerf.blocks.plan import BlockSpec
from blocknerf.core.errors import UserError
from blocknerf.core.lock import Held
from blocknerf.core.logging import log
from blocknerf.runtime.cores import available_cores
from blocknerf.runtime.process_group import ALONE, ProcessGroup
from blocknerf.runtime.signals import StopSignal
from blocknerf.runtime.threads import use_threads
from blocknerf.scene.store import ImageStore
from blocknerf.training.block.trainer import BlockResult
from blocknerf.training.launchers.launcher import Report, raise_failures
from blocknerf.training.run.one_block import train_one
from blocknerf.training.run.run import Run, open_store
from blocknerf.training.run.waves import train_in_waves


class SequentialLauncher:
    """A `Launcher`: one block after the other."""

    group = ALONE

    def train(self, run: Run, blocks: list[BlockSpec], report: Report, locks: Sequence[Held] = ()) -> list[BlockResult]:
        store = open_store(run, progress=True)
        return train_in_waves(run, blocks, lambda wave: train_on_all_cores(run, wave, store, report))


def train_on_all_cores(run: Run, blocks: list[BlockSpec], store: ImageStore, report: Report) -> list[BlockResult]:
    """Like `train_in_order`, with all cores of this machine for this process."""
    use_threads(available_cores(), run.config.block_nerf.worker)
    return train_in_order(run, blocks, store, report)


def train_in_order(
    run: Run, blocks: list[BlockSpec], store: ImageStore, report: Report, group: ProcessGroup = ALONE
) -> list[BlockResult]:
    """Trains blocks one after the other, each with all processes of `group`.

    Raises UserError if any fails: after the others, or immediately if several processes train together.
    """
    results: list[BlockResult] = []
    failed: dict[str, str] = {}
    with StopSignal() as stop:
        for block in blocks:
            try:
                run.pull_block(block.id)
                results.append(train_one(run, block, store, lambda: stop.requested, partial(report, block.id), group))
            except UserError as error:
                if group.size > 1 or len(blocks) == 1:
                    raise
                log.error("Block %s failed. %s", block.id, error)
                failed[block.id] = str(error)
    raise_failures(run, failed, len(blocks))
    return results
