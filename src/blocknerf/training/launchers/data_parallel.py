"""Trains blocks one after the other, each with all processes of a group."""

import os
from collections.abc import Sequence

from blocknerf.blocks.plan import BlockSpec
from blocknerf.core.config.distributed import DistributedConfig
from blocknerf.core.errors import UserError
from blocknerf.core.lock import Held
from blocknerf.runtime.process_group import ProcessGroup
from blocknerf.training.block.trainer import BlockResult
from blocknerf.training.launchers.launcher import Report
from blocknerf.training.launchers.sequential import train_in_order
from blocknerf.training.run.run import Run, open_store_in_turn
from blocknerf.training.run.waves import train_in_waves


class DistributedBlockNeRFTrainer:
    """A `Launcher`: each process takes its share of the rays of every step, and the first process writes.

    Blocks that are trained separately need no group: `ProcessLauncher` gives each a process.
    """

    def __init__(self, config: DistributedConfig, group: ProcessGroup):
        """Raises UserError if processes of one machine would share a CUDA device, which nccl refuses."""
        shared = dict.fromkeys(device for device in config.device_map.values() if device.startswith("cuda"))
        if shared and config.backend == "nccl" and int(os.environ.get("LOCAL_WORLD_SIZE", "1")) > 1:
            raise UserError(
                f"Every process puts parts of its field on {', '.join(shared)} (distributed.device_map), but nccl "
                "needs a device for each process. Set distributed.backend=gloo, or start one process per machine."
            )
        self.group = group

    def train(self, run: Run, blocks: list[BlockSpec], report: Report, locks: Sequence[Held] = ()) -> list[BlockResult]:
        """Raises UserError in every process if one of them ends before the others."""
        store = open_store_in_turn(run, self.group)
        return train_in_waves(run, blocks, lambda wave: train_in_order(run, wave, store, report, self.group))
