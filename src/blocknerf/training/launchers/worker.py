"""What a process does that any launcher started to train one block."""

from collections.abc import Callable
from contextlib import AbstractContextManager

from blocknerf.blocks.plan import BlockSpec
from blocknerf.core.errors import UserError
from blocknerf.core.logging import log, start_logging
from blocknerf.models.block_file import is_finished, read_block_meta
from blocknerf.runtime.threads import use_threads
from blocknerf.training.block.trainer import BlockResult, Progress
from blocknerf.training.launchers.worker_pool import Failure
from blocknerf.training.run.one_block import train_one
from blocknerf.training.run.run import Run, open_store


def train_in_worker(
    staged: AbstractContextManager[Run],
    block: BlockSpec,
    threads: int,
    should_stop: Callable[[], bool],
    report: Callable[[Progress], None],
) -> BlockResult | Failure | None:
    """Trains `block` of a run that is `staged` on this machine, with `threads`; None if it was stopped and saved."""
    try:
        with staged as run:
            use_threads(threads, run.config.block_nerf.worker)
            run.pull_block(block.id)
            start_logging(run.log_file(block.id), to_console=False)
            finished = None if run.update else _finished_before(run, block)
            return finished or train_one(run, block, open_store(run, progress=False), should_stop, report)
    except UserError as error:
        log.error("Block %s failed. %s", block.id, error)
        return Failure(str(error))
    except KeyboardInterrupt:
        log.info("Block %s was stopped.", block.id)
        return None
    finally:
        start_logging(to_console=False)  # closes the log file


def _finished_before(run: Run, block: BlockSpec) -> BlockResult | None:
    """The result of a block whose machine died after everything was written; other finished blocks are not launched."""
    folder = run.block_folder(block.id)
    if not is_finished(folder):
        return None
    meta = read_block_meta(folder, "latest")
    rays_per_s = meta.step * run.config.dataset.batch_size / meta.spent_s
    return BlockResult(block.id, meta.step, meta.spent_s, rays_per_s, meta.best_psnr)
