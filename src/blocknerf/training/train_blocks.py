"""Trains many blocks of a plan with any launcher."""

from contextlib import nullcontext

from blocknerf.blocks.output import planning
from blocknerf.city.manifest import manifest_of, write_manifest
from blocknerf.training.block.trainer import BlockResult
from blocknerf.training.launchers.choose import choose_launcher
from blocknerf.training.launchers.launcher import Launcher, Report, nobody
from blocknerf.training.run.budget import RunBudget
from blocknerf.training.run.locked_blocks import locked_blocks
from blocknerf.training.run.run import Run
from blocknerf.training.run.todo import blocks_to_train, blocks_to_update


def train_blocks(
    run: Run,
    block_ids: tuple[str, ...] = (),
    resume: bool = False,
    overwrite: bool = False,
    report: Report = nobody,
    launcher: Launcher | None = None,
    budget: RunBudget | None = None,
) -> list[BlockResult]:
    """Trains `block_ids` (empty: every block of the plan) and writes city.json.

    With `resume`, finished blocks are skipped and unfinished ones resume from their checkpoints; with `overwrite`,
    what they have learned is deleted. `launcher` says how blocks are trained; by default, `choose_launcher` decides.
    With a `budget`, each block gets its part of the minutes that are left when all pixels are decoded. Raises UserError
    if blocks would be overwritten without `overwrite`, or if any fails; the others are still trained.
    """
    wanted = run.plan.select(block_ids)
    launcher = launcher or choose_launcher(run, wanted)
    group = launcher.group
    with locked_blocks(run, wanted) if group.is_first else nullcontext([]) as locks:
        if group.is_first:
            todo = blocks_to_update(run, wanted) if run.update else blocks_to_train(run, wanted, resume, overwrite)
            run = run if budget is None else budget.timed(run, todo)
            with planning(run.output_dir):
                write_manifest(run.output_dir, manifest_of(run.plan, run.config.block_manager, run.config.city))
            run.push_plan()
            group.wait()
        else:
            group.wait()  # until the first process has tidied up
            todo = blocks_to_train(run, wanted, resume=True, overwrite=False)
        return launcher.train(run, todo, report, locks)
