"""The interface of launchers, which train several blocks, and their error when blocks fail."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

from blocknerf.blocks.plan import BlockSpec
from blocknerf.core.errors import UserError
from blocknerf.core.lock import Held
from blocknerf.runtime.process_group import ProcessGroup
from blocknerf.training.block.trainer import BlockResult, Progress
from blocknerf.training.run.run import Run

Report = Callable[[str, Progress | None], None]
"""Called with a block's id and its progress, or None while the block waits for its turn."""


@runtime_checkable
class Launcher(Protocol):
    """One way to train several blocks."""

    group: ProcessGroup
    """The processes that run this command together; `ALONE` if there is only one."""

    def train(self, run: Run, blocks: list[BlockSpec], report: Report, locks: Sequence[Held] = ()) -> list[BlockResult]:
        """Trains `blocks` from their current state to the end, and returns the results of this process.

        `locks` are the locks of the blocks. Raises UserError if any block fails, after the others have ended;
        KeyboardInterrupt if the user stops the command, after all blocks are saved.
        """
        ...


def nobody(block_id: str, progress: Progress | None) -> None:
    """A `Report` that does nothing."""


def raise_failures(run: Run, failed: Mapping[str, str], total: int) -> None:
    """Raises UserError if any of `total` blocks failed. `failed` has the reasons by block id."""
    if failed:
        reasons = " ".join(f"{block_id}: {reason}" for block_id, reason in failed.items())
        raise UserError(
            f"{len(failed)} of {total} blocks failed, and all others were trained. {reasons} The logs are in "
            f"{run.output.place}/{run.config.output.log_dir}. Run again with --resume for the rest."
        )
