"""What launches the training of several blocks, and what all launchers say when blocks fail."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

from blocknerf.blocks.plan import BlockSpec
from blocknerf.core.errors import UserError
from blocknerf.core.lock import Held
from blocknerf.runtime.process_group import ProcessGroup
from blocknerf.training.block.trainer import BlockResult, Progress
from blocknerf.training.run.run import Run

Report = Callable[[str, Progress | None], None]
"""Is called with a block's id and its progress; None: the block waits for its turn."""


@runtime_checkable
class Launcher(Protocol):
    """One way to train several blocks."""

    group: ProcessGroup
    """The processes that run this command together; `ALONE` where there is one."""

    def train(self, run: Run, blocks: list[BlockSpec], report: Report, locks: Sequence[Held] = ()) -> list[BlockResult]:
        """Trains `blocks` from wherever they stand to their ends, and returns the results of this process.

        `locks` are those on the blocks. Raises UserError when any block fails, after the others; KeyboardInterrupt
        when the user asked to stop, and all have saved.
        """
        ...


def nobody(block_id: str, progress: Progress | None) -> None:
    """A `Report` that nobody reads."""


def raise_failures(run: Run, failed: Mapping[str, str], total: int) -> None:
    """Raises UserError where any of `total` blocks failed: reasons by block id."""
    if failed:
        reasons = " ".join(f"{block_id}: {reason}" for block_id, reason in failed.items())
        raise UserError(
            f"{len(failed)} of {total} blocks failed, none of the others was stopped by it. {reasons} "
            f"The logs are in {run.output.place}/{run.config.output.log_dir}; run again with --resume for the rest."
        )
