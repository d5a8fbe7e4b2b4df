"""All blocks of a run, each trained by all processes of a group."""

import os

from blocknerf.core.errors import UserError
from blocknerf.runtime.process_group import ProcessGroup
from blocknerf.training.launchers.launcher import Report
from blocknerf.training.one_block import Run
from blocknerf.training.run import train_blocks
from blocknerf.training.trainer import BlockResult


class DistributedBlockNeRFTrainer:
    """One block after the other; of every step each process takes its share of the rays, and the first one writes.

    Blocks that are trained apart need no group: `train_blocks` spreads them over processes by `jobs`.
    """

    def __init__(self, run: Run, group: ProcessGroup):
        """Raises UserError where processes of one machine would need a CUDA device together, which nccl refuses."""
        settings = run.config.distributed
        shared = dict.fromkeys(device for device in settings.device_map.values() if device.startswith("cuda"))
        if shared and settings.backend == "nccl" and int(os.environ.get("LOCAL_WORLD_SIZE", "1")) > 1:
            raise UserError(
                f"Every process puts parts of its field on {', '.join(shared)} (distributed.device_map), "
                "and nccl wants a device for each. Set distributed.backend=gloo, or start one process a machine."
            )
        self.run, self.group = run, group

    def train(self, block_ids: tuple[str, ...], resume: bool, overwrite: bool, report: Report) -> list[BlockResult]:
        """As `train_blocks`; raises UserError in every process when one of them ends before the others."""
        return train_blocks(self.run, block_ids, 1, resume, overwrite, report, self.group)
