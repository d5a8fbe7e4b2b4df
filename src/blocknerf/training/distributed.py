"""All blocks of a run, each trained by all processes of a group."""

from blocknerf.runtime.process_group import ProcessGroup
from blocknerf.training.run import Report, Run, train_blocks
from blocknerf.training.trainer import BlockResult


class DistributedBlockNeRFTrainer:
    """One block after the other; of every step each process takes its share of the rays, and the first one writes.

    Blocks that are trained apart need no group: `train_blocks` spreads them over processes by `jobs`.
    """

    def __init__(self, run: Run, group: ProcessGroup):
        self.run, self.group = run, group

    def train(self, block_ids: tuple[str, ...], resume: bool, overwrite: bool, report: Report) -> list[BlockResult]:
        """As `train_blocks`; raises UserError in every process when one of them ends before the others."""
        return train_blocks(self.run, block_ids, 1, resume, overwrite, report, self.group)
