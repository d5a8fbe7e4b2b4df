"""Locks on blocks, so that only one process trains them."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from blocknerf.blocks.output import planning
from blocknerf.blocks.plan import BlockSpec, read_plan
from blocknerf.city.states import BEST
from blocknerf.core.errors import UserError
from blocknerf.core.lock import NAME, Held, locked_folder
from blocknerf.models.block_file import tidy_block
from blocknerf.training.run.run import Run


@contextmanager
def locked_blocks(run: Run, blocks: Sequence[BlockSpec]) -> Iterator[list[Held]]:
    """Locks `blocks` of the run's output folder, for this process and those to which it sends the locks.

    All blocks of a plan share one lock. If only some are trained, each has a lock, so that other machines may train the
    others in the same folder. Files left half written by killed processes are removed. Raises UserError if another
    process trains one of the blocks (and says which), or if the plan was changed since it was read.
    """
    folder, busy = run.output_dir / "blocks", f"of {run.output_dir} is being trained"
    with ExitStack() as locks:
        with planning(run.output_dir):
            _require_same_plan(run, blocks)
            if len(blocks) == len(run.plan.blocks):
                for block in blocks:
                    if (run.block_folder(block.id) / NAME).exists():
                        with locked_folder(run.block_folder(block.id), f"Block {block.id} {busy}"):
                            pass
                held = [locks.enter_context(locked_folder(folder, f"Every block {busy}", below=False))]
            else:
                held = [locks.enter_context(locked_folder(folder, f"Every block {busy}", shared=True))]
                for block in blocks:
                    alone = locked_folder(run.block_folder(block.id), f"Block {block.id} {busy}", below=False)
                    held.append(locks.enter_context(alone))
        for block in blocks:
            for place in {run.block_folder(block.id), run.checkpoint_folder(block.id)}:
                held[0].sweep(place)
                for name in ("latest", BEST):
                    tidy_block(place, name)
        yield held


def _require_same_plan(run: Run, blocks: Sequence[BlockSpec]) -> None:
    path = run.output_dir / "plan.json"
    if not path.is_file():
        return
    now = {block.id: block for block in read_plan(path).blocks}
    if any(now.get(block.id) != block for block in blocks):
        raise UserError(f"Another command has changed the plan in {run.output_dir} since this one began. Run it again.")
