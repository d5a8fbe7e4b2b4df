"""A budget of minutes for a whole run: what it chooses for a plan, and what is left of it when pixels are decoded.

`blocks/budget.py` is the rule; here are the numbers that it needs, from the clock, the plan and the output folder.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from blocknerf.blocks.budget import (
    FEWEST_LOG2_ROWS,
    FEWEST_PASSES,
    STEPS_OF_SMALL_BATCHES,
    Choice,
    Given,
    Images,
    Machine,
    Todo,
    choose,
    least_seconds,
)
from blocknerf.blocks.budget_file import BATCH, EPOCHS, MINUTES, ROWS, SAMPLES, SIZE, StoredBudget
from blocknerf.blocks.cost import cameras_of
from blocknerf.blocks.output import write_config
from blocknerf.blocks.plan import BlockSpec, Plan
from blocknerf.core.config.config import Config
from blocknerf.core.config.dataset import DatasetConfig
from blocknerf.core.config.effects import value_of
from blocknerf.core.config.keys import with_values
from blocknerf.core.config.training import TrainingConfig
from blocknerf.core.errors import UserError
from blocknerf.core.logging import log
from blocknerf.models.block_file import has_block, read_block_meta
from blocknerf.scene.scene import Scene
from blocknerf.training.run.budget_words import minutes_a_block, sentences
from blocknerf.training.run.run import Run, open_store
from blocknerf.training.run.waves import in_waves

USED = 0.97
"""Share of the budget that is planned with; the rest is for what nobody foresees, such as checkpoints."""
BLOCK_S, END_S = 2.0, 2.0
"""To prepare and save a block, and to end a run."""
DECODED_S_PER_MPX = 0.08
"""To decode a photograph and to reduce it, with one thread. Used until it is done."""
ALIGNED_S = 3.0
"""For each pair of neighbours, if blocks are aligned at the end."""
MORE_EPOCHS = 10
"""Epochs do not end a block before its time does, even on a machine that is so many times faster than measured."""


@dataclass(frozen=True, slots=True)
class RunBudget:
    """`minutes` for a run that began at `began_s` of the monotonic clock, on a `machine`.

    `free` are the keys that may be chosen. `jobs` blocks are trained at the same time (None: one per core).
    `start_s` is what a process takes before it trains. `aligns`: whether blocks are aligned at the end.
    """

    minutes: float
    began_s: float
    machine: Machine
    free: frozenset[str]
    start_s: float = 0.0
    jobs: int | None = None
    block_ids: tuple[str, ...] = ()
    aligns: bool = True
    kept: StoredBudget | None = None
    """What was chosen for this folder before, which stays, but for its minutes."""

    def left_s(self) -> float:
        return 60 * USED * self.minutes - (time.monotonic() - self.began_s)

    def settle(self, config: Config, scene: Scene, plan: Plan) -> tuple[Config, StoredBudget]:
        """The configuration with what is chosen for the plan, which is also logged, and the record of it.

        In a folder with a record, only minutes are chosen, when training begins (`timed`). Raises UserError if the time
        is too short for a step of each block.
        """
        machine = self.machine
        record = StoredBudget(self.minutes, machine.rays_per_s_per_core, machine.cores, tuple(sorted(self.free)))
        if self.kept is not None:
            return config, replace(record, chosen=tuple(sorted({*self.kept.chosen, MINUTES})))
        blocks = plan.select(self.block_ids)
        waves = in_waves(plan, blocks, config.training)
        todo = self._todo([[0.0] * len(wave) for wave in waves])
        left_s = (
            self.left_s()
            - _decoding_s(config.dataset, scene, machine)
            - self._end_s(config.training, scene, plan, blocks)
        )
        given, images = given_of(config, self.free, blocks), images_of(blocks, scene)
        choice = choose(machine, left_s, todo, images, given)
        self._require_time(choice, left_s, todo, images, given)
        twice = choose(machine, left_s + 60 * USED * self.minutes, todo, images, given)
        values = {key: value for key, value in values_of(choice, config.training).items() if key in self.free}
        for sentence in sentences(self.minutes, machine, todo, images, choice, twice, values.keys()):
            log.info("%s", sentence)
        _warn(config.training, choice, EPOCHS in values)
        return with_values(config, values), record

    def timed(self, run: Run, blocks: Sequence[BlockSpec]) -> Run:
        """The run with the minutes that are left for each of `blocks`, once all pixels are decoded.

        Stores them as well. What these blocks, and others of this command, were trained before counts. Raises UserError
        if no time is left.
        """
        if not blocks:
            return run
        config = run.config
        open_store(run, progress=True)
        waves = in_waves(run.plan, blocks, config.training)
        todo = self._todo([[_spent_s(run, block) for block in wave] for wave in waves])
        others = [block for block in run.plan.select(self.block_ids) if block not in blocks]
        before_s = sum(_spent_s(run, block) for block in (*blocks, *others)) / max(map(todo.places, todo.waves))
        left_s = self.left_s() - before_s - self._end_s(config.training, run.scene, run.plan, list(blocks))
        given, images = given_of(config, frozenset(), blocks), images_of(blocks, run.scene)
        choice = choose(self.machine, left_s, todo, images, given)
        self._require_time(choice, left_s, todo, images, given)
        values = {MINUTES: values_of(choice, config.training)[MINUTES]}
        if EPOCHS in (self.kept.chosen if self.kept else self.free) and not _counts_epochs(config.training):
            values[EPOCHS] = max(config.training.num_epochs, values_of(choice, config.training)[EPOCHS])
        config = with_values(config, values)
        write_config(run.output_dir, config)
        log.info(
            "%.1f of %g minutes are left for training: %s.",
            max(left_s, 0.0) / 60,
            self.minutes,
            minutes_a_block(choice.machine_s, todo),
        )
        return replace(run, config=config)

    def _todo(self, waves: Sequence[Sequence[float]]) -> Todo:
        jobs = self.jobs or self.machine.cores
        begins_s = BLOCK_S + (self.start_s if jobs > 1 else 0.0)
        return Todo(tuple(tuple(wave) for wave in waves), jobs, begins_s)

    def _end_s(self, config: TrainingConfig, scene: Scene, plan: Plan, blocks: Sequence[BlockSpec]) -> float:
        """To end the run: its table, and the alignment of blocks of several drives."""
        several = len({image.drive for image in scene.images}) > 1 and len(plan.blocks) > 1
        pairs = sum(len(block.neighbours) for block in blocks) / 2
        aligned_s = ALIGNED_S * pairs if self.aligns and several and config.use_appearance_embedding else 0.0
        return END_S + aligned_s

    def _require_time(self, choice: Choice, left_s: float, todo: Todo, images: Sequence[Images], given: Given) -> None:
        if choice.rays >= choice.batch_size:
            return
        other_s = 60 * USED * self.minutes - left_s
        blocks_s, count = least_seconds(self.machine, todo, images, choice, given), sum(map(len, todo.waves))
        least = math.ceil((other_s + blocks_s) / (6 * USED)) / 10
        raise UserError(
            f"--minutes {self.minutes:g} is too short for a step of each block: {other_s:.0f} s go to reading, "
            f"decoding, ending and what was trained before, and {blocks_s:.0f} s to begin, validate and save "
            f"{count} block{'s' * (count > 1)}. Give at least --minutes {least:g}, and many times that for pictures "
            "worth looking at."
        )


def given_of(config: Config, free: frozenset[str], blocks: Sequence[BlockSpec]) -> Given:
    """What the rule needs to know of a configuration in which keys `free` may be chosen."""
    staged = config.training.stage_training.enable  # stages have their own sizes
    has_grid = hasattr(config.block_nerf, "hash_grid")
    rows = value_of(config, ROWS) if has_grid else FEWEST_LOG2_ROWS
    is_object = has_grid and bool(blocks) and all(block.bounded for block in blocks)
    patch = config.dataset.patch_size**2 if config.needs_patches else 1
    return Given(
        image_downsample=config.dataset.image_downsample if SIZE not in free or staged else None,
        batch_size=config.dataset.batch_size if BATCH not in free else None,
        log2_table_rows=rows if ROWS not in free else None,
        fewest_rays=max(patch, config.dataset.num_rays_per_image or 1),
        num_samples_fine=None if is_object and SAMPLES in free else config.block_nerf.num_samples_fine,
        by_surface=config.block_manager.divide_by == "surface",
        validation_images=config.validation.num_val_images,
        validation_epochs=float(config.validation.val_freq),
    )


def values_of(choice: Choice, config: TrainingConfig) -> dict[str, int | float]:
    """A choice as keys of the configuration."""
    values: dict[str, int | float] = {
        BATCH: choice.batch_size,
        ROWS: choice.log2_table_rows,
        SAMPLES: choice.num_samples_fine,
        MINUTES: max(choice.machine_s, 1e-3) / 60,
    }
    if not config.stage_training.enable:
        values[SIZE] = choice.image_downsample
    if not _counts_epochs(config):
        values[EPOCHS] = max(config.num_epochs, math.ceil(MORE_EPOCHS * choice.passes))
    return values


def images_of(blocks: Sequence[BlockSpec], scene: Scene) -> list[Images]:
    """The training images of each block, by camera."""
    cameras = scene.cameras
    return [
        tuple((number, cameras[key].height, cameras[key].width) for key, number in used.items())
        for used in cameras_of(blocks, scene)
    ]


def _warn(config: TrainingConfig, choice: Choice, epochs_are_chosen: bool) -> None:
    staged = config.stage_training.enable  # at sizes of its own
    if choice.steps < STEPS_OF_SMALL_BATCHES or (choice.passes < FEWEST_PASSES and not staged):
        log.warning(
            "That is little time: a block takes about %s steps of %s rays. Expect blurred pictures.",
            f"{choice.steps:,.0f}",
            f"{choice.batch_size:,}",
        )
    if config.max_steps is not None:
        log.info("training.max_steps=%d ends a block sooner if it is reached.", config.max_steps)
    if not epochs_are_chosen:
        log.info("training.num_epochs=%g ends a block sooner if it is reached.", config.num_epochs)


def _counts_epochs(config: TrainingConfig) -> bool:
    """Whether keys are given in epochs, so that another number of them would change what they mean."""
    given = (*config.lr_decay_steps, *config.pose_milestones, config.nerf_lr_decay, config.appearance_cosine_cycles)
    return config.stage_training.enable or any(value is not None for value in given)


def _decoding_s(config: DatasetConfig, scene: Scene, machine: Machine) -> float:
    pixels = sum(
        scene.cameras[image.camera_key].width * scene.cameras[image.camera_key].height for image in scene.images
    )
    threads = max(1, min(config.num_workers, machine.cores))
    return DECODED_S_PER_MPX * pixels / 1e6 / threads


def _spent_s(run: Run, block: BlockSpec) -> float:
    """Seconds for which a block was trained before, if it was."""
    for folder, name in (
        (run.checkpoint_folder(block.id), "checkpoint"),
        (run.block_folder(block.id), "latest"),
    ):
        if has_block(folder, name):
            return read_block_meta(folder, name).spent_s
    return 0.0
