"""The training of one block, from its first step or its checkpoint to the end of its budget."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from blocknerf.core.errors import UserError, listed
from blocknerf.core.logging import log
from blocknerf.core.seeds import generator
from blocknerf.models.block_meta import BlockMeta
from blocknerf.runtime.devices import CPU
from blocknerf.runtime.process_group import ALONE, ProcessGroup
from blocknerf.scene.sampler import PixelSampler
from blocknerf.training.block.broken_batch import is_finite, write_broken_batch
from blocknerf.training.block.checkpoint import CHECKPOINT, ModelCheckpoint, ModuleState, Stateful, save_or_warn
from blocknerf.training.block.gradient_sync import average_counts
from blocknerf.training.block.initial_model import initial_model, initial_rng
from blocknerf.training.block.inputs import BlockFolders, BlockInputs
from blocknerf.training.block.metrics import CLOCK, TrainingMetrics
from blocknerf.training.block.neighbour_targets import NEIGHBOURS, NeighbourTargets, SharedBorders
from blocknerf.training.block.pose_setup import about_groups
from blocknerf.training.block.schedule import BlockNeRFScheduler
from blocknerf.training.block.staged_sampler import StagedSampler
from blocknerf.training.block.training_step import BrokenLossError, TrainingStep
from blocknerf.training.block.validator import BlockValidator

MOST_NAMED = 8


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of a block: `fraction` of its budget in [0, 1], PSNR of recent training batches in dB."""

    fraction: float
    step: int
    rays_per_s: float
    train_psnr: float
    remaining_s: float


@dataclass(frozen=True, slots=True)
class BlockResult:
    """Figures of a finished block. `val_psnr` is None if the block has no test image."""

    block_id: str
    steps: int
    train_s: float
    rays_per_s: float
    val_psnr: float | None


class BlockNeRFTrainer:
    """Trains one block from its share of the images. Writes weights, figures and checkpoints to `folders`."""

    def __init__(
        self,
        inputs: BlockInputs,
        folders: BlockFolders,
        device: str = CPU,
        group: ProcessGroup = ALONE,
        neighbours: SharedBorders | None = None,
        on_progress: Callable[[Progress], None] = lambda progress: None,
        on_save: Callable[[], None] = lambda: None,
    ):
        """The block learns on `device`, or on the devices of distributed.device_map.

        All processes of a `group` train this block together, each on `batch_size` rays of every step. The first process
        writes. `neighbours` holds what neighbouring blocks render on rays that both see. `on_save` is called after
        every checkpoint. Raises UserError if none of the block's images can be decoded.
        """
        self.inputs, self.folders, self.group = inputs, folders, group
        self.config, self.spec, self.image_ids = inputs.config, inputs.spec, inputs.image_ids
        self.on_progress, self.on_save = on_progress, on_save
        self.rng = initial_rng(inputs)
        self.model = initial_model(inputs, device, self.rng)
        if not group.is_first:  # the field began equal in all processes; from here on each draws different samples
            self.rng = generator(self.config.training.seed, "train", self.spec.id, "process", group.rank)
        self.stepper = TrainingStep(inputs, self.model, group, neighbours)
        self.scheduler = BlockNeRFScheduler(self.config.training)
        curves = folders.tensorboard if group.is_first else None
        self.metrics = TrainingMetrics(self.config, folders.block, curves)
        self.validator = BlockValidator(inputs, self.model, self.stepper.loss, self.metrics, folders.renders)
        self._announce_poses()
        self.batches = StagedSampler(inputs, group)
        self.model.set_trainable(self.batches.components)
        all_epochs = self.batches.stages.total_steps
        self.total_steps = min(all_epochs, self.config.training.max_steps or all_epochs)
        self.budget_s = inputs.budget_s
        self.step = 0
        self.spent_s = 0.0
        self.recent_mse: float | None = None
        self.other_rngs: list[Tensor] = []
        """Random states of the other processes of the group, when they were last gathered."""
        self.parts: dict[str, Stateful] = {
            "model": ModuleState(self.model),
            "optimizer": self.stepper.optimizer,
            "memory": self.stepper.memory,
            "metrics": self.metrics,
            "trainer": self,
        }
        """Everything that decides how training continues: the content of a checkpoint."""
        if isinstance(neighbours, NeighbourTargets):
            self.parts[NEIGHBOURS] = neighbours
        self.checkpoint = ModelCheckpoint(
            folders.block, folders.checkpoint_dir, inputs.provenance, self.model, self.parts, self._description
        )

    @property
    def sampler(self) -> PixelSampler:
        """The sampler of the current stage."""
        return self.batches.sampler

    @property
    def fraction(self) -> float:
        """Used share of the budget: of steps or of time, whichever is larger."""
        return min(1.0, max(self.step / self.total_steps, self.spent_s / self.budget_s))

    def train(self, should_stop: Callable[[], bool] = lambda: False) -> BlockResult:
        """Trains to the end of the budget.

        If `should_stop` returns True between two steps, saves and raises KeyboardInterrupt.
        """
        next_save_s = self.spent_s + 60 * self.config.training.checkpoint_minutes
        if self.group.is_first:
            self.metrics.start(self.step)
        try:
            while self.fraction < 1:
                self.train_iteration()
                stop = self.group.any(should_stop())
                if not stop and self.spent_s >= next_save_s:
                    save_or_warn(self.spec.id, self.save)
                    next_save_s = self.spent_s + 60 * self.config.training.checkpoint_minutes
                if stop:
                    self.save()
                    log.info("Block %s is saved at step %d (%.0f %%).", self.spec.id, self.step, 100 * self.fraction)
                    raise KeyboardInterrupt
            return self.finish()
        finally:
            self.metrics.close()

    def train_iteration(self) -> dict[str, Tensor]:
        """One step, and what is due after it: figures, validation, pictures, a kept state.

        Returns the terms of its loss by name, unweighted.
        """
        begin, stage = time.perf_counter(), self.batches.number if self.step else None
        terms, norm = self.train_step()
        (self.spent_s,) = self.group.of_first(self.spent_s + time.perf_counter() - begin)
        begins_stage = self.batches.stages.enabled and self.batches.number != stage
        if begins_stage or self.step % self.config.logging.log_freq == 0:
            self._log(terms, norm)
        if self.fraction == 1:
            pass  # `finish` validates and shows
        elif self._is_validated(self.step):
            self._gather()
            if self.group.is_first:
                self._validate()
        elif self._shows_pictures(self.step):
            self.validator.show_pictures(self.step)
        keep_every = self._steps(self.config.validation.save_freq)
        if keep_every is not None and self.step % keep_every == 0:
            self._gather()
            if self.group.is_first:
                save_or_warn(self.spec.id, lambda: self.checkpoint.keep(self.step))
        return terms

    def train_step(self) -> tuple[dict[str, Tensor], float]:
        """One step only. Returns the terms of its loss by name, unweighted, and the norm of its gradient.

        Raises UserError if the loss is not finite.
        """
        if self.batches.is_due(self.fraction):
            self._enter_stage(self.batches.stages.stage_at(self.fraction))
        batch = self.batches.next(self.step)
        self.stepper.set_progress(self.fraction, self.batches.components, self.batches.stage.config.num_samples)
        try:
            terms = self.stepper.backward(batch, self.step, self.rng)
        except BrokenLossError as broken:
            raise self._broken(broken) from broken
        if self._shows_pictures(self.step + 1):
            gradients = self.stepper.optimizer.gradients_by_name(self.model)
            self.metrics.histograms(((f"gradient/{name}", values) for name, values in gradients), self.step + 1)
        norm = self.stepper.apply(self._rates())
        self.step += 1
        mse = float(terms["mse"])
        self.recent_mse = mse if self.recent_mse is None else 0.98 * self.recent_mse + 0.02 * mse
        return terms, norm

    def save(self) -> None:
        """Writes the checkpoint and the weights that can be rendered."""
        self._gather()
        if self.group.is_first:
            self.checkpoint.save()
            self.on_save()

    def resume(self, name: str = CHECKPOINT) -> bool:
        """Restores the last checkpoint exactly; False if there is none."""
        return self.checkpoint.resume(name)

    def finish(self) -> BlockResult:
        """Validates, and writes the finished block."""
        save_or_warn(self.spec.id, self.save)
        val_psnr = None
        if self.group.is_first:
            val_psnr = self._validate()
            self.checkpoint.finish()
        progress = self._progress()
        self.on_progress(progress)
        return BlockResult(self.spec.id, self.step, self.spent_s, progress.rays_per_s, val_psnr)

    def state(self) -> dict[str, Any]:
        """What decides how training continues, apart from the other parts of a checkpoint."""
        return {
            "step": self.step,
            "spent_s": self.spent_s,
            "recent_mse": self.recent_mse,
            "stage": self.batches.number,
            "restarts_done": self.stepper.restarts_done,
            "sampler": self.sampler.state(),
            "rng": torch.stack([self.rng.get_state(), *self.other_rngs]),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Raises UserError if another number of processes trained the block."""
        self.step, self.spent_s, self.recent_mse = state["step"], state["spent_s"], state["recent_mse"]
        self._enter_stage(state["stage"])
        self.stepper.restarts_done = state.get("restarts_done", 0)
        self.sampler.restore(state["sampler"])
        if len(state["rng"]) != self.group.size:
            raise UserError(
                f"The checkpoint of block {self.spec.id} was written by {len(state['rng'])} processes that trained "
                f"together, and now there are {self.group.size}. Resume with the same number, or train the block anew "
                "with --overwrite."
            )
        self.rng.set_state(state["rng"][self.group.rank])

    def _enter_stage(self, number: int) -> None:
        self.batches.enter(number, self.step)
        self.model.set_trainable(self.batches.components)

    def _announce_poses(self) -> None:
        if self.model.poses is not None and self.group.is_first:
            sentence = about_groups(self.config, self.model.poses.pose_groups)
            if sentence is not None:
                log.info("Block %s: %s.", self.spec.id, sentence)

    def _gather(self) -> None:
        """Gathers what differs between the processes of the group."""
        self.other_rngs = self.group.gather(self.rng.get_state())[1:]
        average_counts(self.group, self.model)

    def _broken(self, broken: BrokenLossError) -> UserError:
        """The error for a loss that is not finite. Also writes the batch.

        If the batch itself is the cause, the block is saved. Otherwise weights have grown too large: it is not saved,
        because training could not resume from them, and the earlier checkpoint stays.
        """
        batch, terms = broken.batch, broken.terms
        path = self.folders.block / "broken_batch.safetensors"
        save_or_warn(self.spec.id, lambda: write_broken_batch(path, batch, self.image_ids, terms))
        advice = "Its pixels are finite, so weights have grown too large: lower training.nerf_lr"
        resumed_from = "its last checkpoint" if self.checkpoint.exists() else "its beginning"
        if not is_finite(batch):
            advice = "Its own values are not finite: repair these images"
            if self.group.size == 1 and NEIGHBOURS not in self.parts:
                save_or_warn(self.spec.id, self.save)
                resumed_from = "this step"
        names = [name for name, term in terms.items() if not bool(term.isfinite()) and name != "mse"]
        images = [self.image_ids[slot] for slot in batch.rays.image_slots.unique().tolist()]
        return UserError(
            f"Training of block {self.spec.id} broke at step {self.step}: {', '.join(names) or 'the sum of terms'} is "
            f"not finite on a batch of the images {listed(images, MOST_NAMED)}, which is in {path}. {advice}, and run "
            f"again with --resume: training resumes from {resumed_from}."
        )

    def _rates(self) -> dict[str, float]:
        return self.scheduler.rates(self.step, self.batches.stages.epoch_share(self.fraction))

    def _log(self, terms: dict[str, Tensor], norm: float) -> None:
        if not self.group.is_first:
            return
        progress = self._progress()
        self.on_progress(progress)
        learning = set(self.batches.components) & set(self.config.training.components)
        figures = {f"loss/{name}": float(term) for name, term in terms.items()}
        figures |= {f"rate/{name}": rate for name, rate in self._rates().items() if name in learning}
        figures |= {"train/psnr": progress.train_psnr, "train/gradient_norm": norm}
        figures |= {f"{CLOCK}rays_per_s": progress.rays_per_s, f"{CLOCK}spent_s": self.spent_s}
        self.metrics.log(figures, self.step)

    def _progress(self) -> Progress:
        return Progress(
            fraction=self.fraction,
            step=self.step,
            rays_per_s=self.step * self.sampler.batch_size / max(self.spent_s, 1e-9),
            train_psnr=math.nan if self.recent_mse is None else -10 * math.log10(max(self.recent_mse, 1e-12)),
            remaining_s=self.spent_s * (1 / max(self.fraction, 1e-6) - 1),
        )

    def _validate(self) -> float | None:
        """Mean PSNR of the validation's test images, or None; saves the best state."""
        figures = self.validator.validate(self.step)
        if not figures:
            return None
        if self.metrics.validated(figures, self.step):
            save_or_warn(self.spec.id, self.checkpoint.save_best)
        return figures["psnr"]

    def _steps(self, epochs: float | None) -> int | None:
        return None if epochs is None else max(1, round(epochs * self.batches.steps_per_epoch))

    def _is_validated(self, step: int) -> bool:
        return step % max(1, round(self.config.validation.val_freq * self.batches.steps_per_epoch)) == 0

    def _shows_pictures(self, step: int) -> bool:
        """Whether TensorBoard gets pictures and histograms of gradients at this step."""
        every = self.config.logging.image_log_freq
        return self.metrics.shows_pictures and (self._is_validated(step) or (every is not None and step % every == 0))

    def _description(self) -> BlockMeta:
        return BlockMeta(
            block_id=self.spec.id,
            scene_hash=self.inputs.scene_hash,
            anchor_world=self.spec.anchor_world,
            step=self.step,
            spent_s=self.spent_s,
            best_psnr=self.metrics.best.get("psnr"),
            image_ids=self.image_ids,
            drives=tuple(image.drive for image in self.inputs.images),
            model=self.model.description(),
        )
