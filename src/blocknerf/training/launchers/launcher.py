"""What trains several blocks at a time: each says how it gets on, and all can be stopped."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from blocknerf.core.errors import UserError
from blocknerf.core.logging import log
from blocknerf.runtime.signals import StopSignal
from blocknerf.training.one_block import Run
from blocknerf.training.trainer import BlockResult, Progress

Report = Callable[[str, Progress | None], None]
"""Told of a block how it gets on; None: it waits for its turn."""

WAIT_S = 0.5
"""Between two looks at blocks in training."""


@dataclass(frozen=True, slots=True)
class RayCluster:
    """A cluster of Ray (`address` as in ray.init; none: the one at hand, or this machine alone), and the cores that
    each block is given; none: those of the cluster, shared among the blocks. With `use_gpus`, each block is given a GPU
    where the cluster has any."""

    address: str | None = None
    cores: int | None = None
    use_gpus: bool = True


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a block is not trained."""

    why: str


@runtime_checkable
class Launcher(Protocol):
    """Trains the blocks that it was made with."""

    def is_busy(self) -> bool:
        """Whether any block is neither finished nor failed."""
        ...

    def listen(self) -> Iterable[tuple[str, Progress | BlockResult | Failure]]:
        """What blocks have said since, by id; waits WAIT_S for it."""
        ...

    def stop(self) -> None:
        """Asks all blocks to save and stop, and waits until they have."""
        ...


def train_with(launcher: Launcher, run: Run, block_ids: list[str], report: Report) -> list[BlockResult]:
    """Waits for `block_ids`, all blocks of `launcher`.

    Raises UserError when any has failed, at the end; KeyboardInterrupt when the user asked to stop, and all have saved.
    """
    results: list[BlockResult] = []
    failed: dict[str, str] = {}
    for block_id in block_ids:
        report(block_id, None)
    with StopSignal() as stop:
        while launcher.is_busy():
            if stop.requested:
                log.info("Blocks in training are saved first; Ctrl-C again stops at once.")
                launcher.stop()
                raise KeyboardInterrupt
            for block_id, said in launcher.listen():
                if isinstance(said, Progress):
                    report(block_id, said)
                elif isinstance(said, BlockResult):
                    results.append(said)
                else:
                    failed.setdefault(block_id, said.why)
    raise_failures(run, failed, len(block_ids))
    return results


def raise_failures(run: Run, failed: dict[str, str], total: int) -> None:
    """Raises UserError where there are any: reasons by block id."""
    if failed:
        what = " ".join(f"{block_id}: {why}" for block_id, why in failed.items())
        raise UserError(
            f"{len(failed)} of {total} blocks failed, none of the others was stopped by it. {what} "
            f"The logs are in {run.output.place}/{run.config.output.log_dir}; run again with --resume for the rest."
        )
