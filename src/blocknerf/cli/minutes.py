"""`--minutes` of `train` and `plan`: the configuration that a budget starts from, and the budget."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from blocknerf.blocks.budget_file import EPOCHS, MINUTES, StoredBudget, as_chosen, read_budget
from blocknerf.core.config.config import Config
from blocknerf.core.config.keys import free_keys
from blocknerf.core.config.load import load_config
from blocknerf.core.errors import UserError

if TYPE_CHECKING:
    from blocknerf.blocks.output import Settle
    from blocknerf.training.run.budget import RunBudget


@dataclass(frozen=True, slots=True)
class Settings:
    """A configuration, the keys that a budget may choose, and what one chose for the folder before, if it stays."""

    config: Config
    free: frozenset[str]
    kept: StoredBudget | None


def read_settings(
    base: Path | None, overrides: Sequence[str], output_dir: Path, resumes: bool, minutes: float | None
) -> Settings:
    """The configuration of a command with or without `--minutes`.

    `base` and `overrides` as for `load_config`. Where something was learned, or a run `resumes`, keys that a budget has
    chosen keep their values. Raises UserError for a number of minutes that is none, and if a block's minutes are given
    as well.
    """
    if minutes is not None and not 0 < minutes < math.inf:
        raise UserError(f"--minutes {minutes:g} is no time for a run. Give a number above 0, as in --minutes 30.")
    from blocknerf.blocks.output import is_settled

    kept = read_budget(output_dir) if resumes or is_settled(output_dir) else None
    stored = base == output_dir / "config.json"
    without = {*kept.chosen} if kept is not None and stored else set()
    if minutes is not None and stored:
        without.add(MINUTES)
    config = load_config(base, tuple(overrides), stored, without)
    free = free_keys(config)
    if minutes is not None and config.training.max_minutes is not None:
        raise UserError(
            f"--minutes {minutes:g} is for the whole run and {MINUTES}={config.training.max_minutes:g} for each "
            f"block. Leave one of the two out; {MINUTES}=auto takes it out of a file."
        )
    return Settings(config if kept is None else as_chosen(config, kept, output_dir), free, kept)


def begin_budget(
    minutes: float,
    began_s: float,
    settings: Settings,
    output_dir: Path,
    devices: tuple[str, ...],
    jobs: int | None = None,
    block_ids: tuple[str, ...] = (),
    aligns: bool = True,
) -> "RunBudget":
    """A budget of a command that began at `began_s`; measures the machine, which takes some seconds.

    Where blocks have learned without a budget, nothing but minutes can be chosen.
    """
    from blocknerf.blocks.output import is_settled
    from blocknerf.training.run.budget import RunBudget
    from blocknerf.training.run.calibration import measured

    start_s = time.monotonic() - began_s
    kept = settings.kept
    if is_settled(output_dir) and kept is None:
        settings = Settings(settings.config, settings.free & {MINUTES, EPOCHS}, None)
    machine = measured(settings.config, devices)
    jobs = 1 if settings.config.distributed.device_map else jobs
    return RunBudget(minutes, began_s, machine, settings.free, start_s, jobs, block_ids, aligns, kept)


def kept_choice(settings: Settings) -> "Settle":
    """What a command without `--minutes` settles: what an earlier one chose for the folder stays."""
    return lambda config, scene, plan: (config, settings.kept)
