"""Decides which launcher trains the blocks of a command. No other module does."""

from collections.abc import Sequence

from blocknerf.blocks.cost import estimates
from blocknerf.blocks.plan import BlockSpec
from blocknerf.core.errors import UserError
from blocknerf.runtime.cores import available_cores
from blocknerf.runtime.devices import CPU
from blocknerf.runtime.memory import free_gb
from blocknerf.runtime.process_group import ProcessGroup
from blocknerf.training.launchers.data_parallel import DistributedBlockNeRFTrainer
from blocknerf.training.launchers.joint import JointLauncher
from blocknerf.training.launchers.launcher import Launcher
from blocknerf.training.launchers.processes import ProcessLauncher
from blocknerf.training.launchers.ray_tasks import RayCluster, RayLauncher
from blocknerf.training.launchers.sequential import SequentialLauncher
from blocknerf.training.run.run import Run

MEMORY_SHARE = 0.8
"""Share of free memory that blocks may use, if the user does not say how many are trained at the same time."""


def choose_launcher(
    run: Run,
    blocks: Sequence[BlockSpec],
    jobs: int | None = None,
    data_parallel: ProcessGroup | None = None,
    joint: ProcessGroup | None = None,
    ray: RayCluster | None = None,
) -> Launcher:
    """One of five launchers. At most one of the last four arguments may be given.

    Without any of them, `jobs` is `jobs_that_fit`, or 1 in an update. Raises UserError if more than one of them is
    given, and for `jobs` below 1.
    """
    if jobs is not None and jobs < 1:
        raise UserError(f"--jobs {jobs}: at least one block must be trained at a time.")
    if sum((jobs not in (None, 1), data_parallel is not None, joint is not None, ray is not None)) > 1:
        raise UserError("Blocks are trained in one way. Give only one of jobs, data_parallel, joint and ray.")
    if ray is not None:
        return RayLauncher(ray)
    if joint is not None:
        return JointLauncher(joint)
    if data_parallel is not None:
        return DistributedBlockNeRFTrainer(run.config.distributed, data_parallel)
    if jobs is None:
        jobs = 1 if run.update else jobs_that_fit(run, blocks)
    return SequentialLauncher() if jobs == 1 else ProcessLauncher(jobs)


def jobs_that_fit(run: Run, blocks: Sequence[BlockSpec]) -> int:
    """One per core, if memory permits: one core per block is faster than all cores for one block after the other.

    On CUDA devices: one per device, or a single one if `distributed.device_map` spreads a block over devices.
    """
    if run.devices != (CPU,) and not run.config.distributed.device_map:
        return min(len(run.devices), max(1, len(blocks)))
    if run.config.distributed.device_map or len(blocks) < 2:
        return 1
    block_gb = max(cost.memory_gb for cost in estimates(blocks, run.scene, run.config))
    return max(1, min(available_cores(), len(blocks), int(MEMORY_SHARE * free_gb() / block_gb)))
