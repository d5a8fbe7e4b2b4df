"""The training of one block: batches, steps, validation, files."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from blocknerf.blocks.plan import BlockSpec
from blocknerf.city.pictures import to_bytes, write_png
from blocknerf.core.config.config import Config
from blocknerf.core.errors import UserError, listed
from blocknerf.core.logging import log
from blocknerf.core.names import word_of
from blocknerf.core.seeds import derive_seed, generator
from blocknerf.core.types import Exposures, on_device
from blocknerf.models.block_meta import BlockMeta
from blocknerf.models.block_nerf import BlockNeRF
from blocknerf.models.model_parallel import ModelParallelBlockNeRF
from blocknerf.models.poses import PoseGroups
from blocknerf.rendering.colours import distance_colours
from blocknerf.runtime.devices import CPU, default_device
from blocknerf.runtime.process_group import ALONE, ProcessGroup
from blocknerf.scene.sampler import PixelBatch, PixelSampler, Tiles
from blocknerf.scene.stage_levels import stage_level
from blocknerf.scene.store import ImageStore
from blocknerf.training.broken_batch import is_finite, write_broken_batch
from blocknerf.training.checkpoint import CHECKPOINT, CheckpointProvenance, ModelCheckpoint, ModuleState
from blocknerf.training.field_restarts import FieldRestarts
from blocknerf.training.gradient_sync import GradientSync, average_counts
from blocknerf.training.losses import BlockNeRFLoss
from blocknerf.training.memory import MemoryOptimizer
from blocknerf.training.metrics import CLOCK, TrainingMetrics
from blocknerf.training.neighbours import NEIGHBOURS, NeighbourTargets, SharedBorders, usable_images
from blocknerf.training.optimizer import BlockOptimizer
from blocknerf.training.pose_setup import about_groups, groups_of, place_poses
from blocknerf.training.schedule import BlockNeRFScheduler
from blocknerf.training.stages import ProgressiveTrainer
from blocknerf.training.validation import (
    ValidationView,
    evenly_picked,
    figures_of,
    render_novel_views,
    render_test_view,
)

MOST_NAMED = 8


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a block stands: `fraction` of its budget in [0, 1], PSNR of recent training batches in dB."""

    fraction: float
    step: int
    rays_per_s: float
    train_psnr: float
    remaining_s: float


@dataclass(frozen=True, slots=True)
class BlockResult:
    """What a finished block has to show. `val_psnr` is None where the block has no test image."""

    block_id: str
    steps: int
    train_s: float
    rays_per_s: float
    val_psnr: float | None


class BlockNeRFTrainer:
    """Trains one block from its share of the images. What renders, and its figures, go to `folder`."""

    def __init__(
        self,
        config: Config,
        spec: BlockSpec,
        store: ImageStore,
        scene_hash: str,
        folder: Path,
        tensorboard_dir: Path | None = None,
        report: Callable[[Progress], None] = lambda progress: None,
        exposures: Exposures | None = None,
        tiles: Tiles | None = None,
        checkpoint_dir: Path | None = None,
        render_dir: Path | None = None,
        earlier_scene_hashes: tuple[str, ...] = (),
        group: ProcessGroup = ALONE,
        shown: SharedBorders | None = None,
        saved: Callable[[], None] = lambda: None,
        device: str = CPU,
        pose_groups: PoseGroups | None = None,
    ):
        """`tiles`: which parts of its images the block is to learn first; none: all alike (see PixelSampler).

        Checkpoints go to `checkpoint_dir`, none: `folder`; pictures of validations to `render_dir`, none: there are
        none. A checkpoint of a scene that this one has grown from may be gone on with. All processes of a `group` train
        this block together, each on `batch_size` rays of every step; the first of them writes. `shown` is what
        neighbours show of rays that both see, where they do. `saved` is called when there is a new state to go on from.
        `pose_groups` are those that a block was begun with; none: as its images tell. The whole block learns on
        `device`, unless distributed.device_map says where its parts do.
        """
        self.config, self.spec, self.store = config, spec, store
        self.scene_hash, self.folder, self.report, self.group = scene_hash, folder, report, group
        self.saved = saved
        self.image_ids = usable_images(spec, store)
        if not self.image_ids:
            raise UserError(f"Block {spec.id} has no training image that can be decoded. Plan again.")
        settings = config.training
        self.rng = generator(settings.seed, "train", spec.id)
        images = [store.records[image_id] for image_id in self.image_ids]
        drives, groups = tuple(image.drive for image in images), pose_groups or groups_of(config, images)
        make = ModelParallelBlockNeRF if config.distributed.device_map else BlockNeRF
        self.model = make(config, spec.center_world, spec.radius_m, self.image_ids, drives, self.rng, exposures, groups)
        if not config.distributed.device_map:
            self.model.to(device)
        if self.model.poses is not None:
            if group.is_first and (sentence := about_groups(config, self.model.poses.pose_groups)) is not None:
                log.info("Block %s: %s.", spec.id, sentence)
            place_poses(self.model.poses, config, store, self.image_ids, spec.radius_m)
        if not group.is_first:  # the field began alike everywhere; from here on every process draws its own samples
            self.rng = generator(settings.seed, "train", spec.id, "process", group.rank)
        self.optimizer = BlockOptimizer(self.model, settings)
        unused = config.distributed.find_unused_parameters
        self.exchange = GradientSync(group, self.model, self.optimizer, unused)
        self.memory = MemoryOptimizer(self.model, self.optimizer, settings, config.dataset.batch_size)
        self.loss = BlockNeRFLoss(settings)
        self.tiles = tiles
        self.scheduler = BlockNeRFScheduler(settings)
        self.restarts = FieldRestarts(config.pose_refinement.field_restarts if self.model.learns_poses else 0)
        self.restarts_done = 0
        self.stages = ProgressiveTrainer(
            settings,
            lambda resolution: stage_level(store, resolution),
            lambda level: self._steps_per_epoch(self._sampler(level, 0)),
        )
        all_epochs = self.stages.total_steps
        self.total_steps = min(all_epochs, settings.max_steps or all_epochs)
        self.budget_s = math.inf if settings.max_minutes is None else 60 * settings.max_minutes
        self.step = 0
        self.spent_s = 0.0
        self.recent_mse: float | None = None
        self.metrics = TrainingMetrics(config, folder, tensorboard_dir)
        self.other_rngs: list[Tensor] = []
        """Of the other processes of the group, as of the last gathering."""
        self.render_dir = render_dir
        self._enter_stage(0)
        self.parts = {
            "model": ModuleState(self.model),
            "optimizer": self.optimizer,
            "memory": self.memory,
            "metrics": self.metrics,
            "trainer": self,
        }
        """All that decides the future, and what a checkpoint holds."""
        self.shown = shown
        if isinstance(shown, NeighbourTargets):
            self.parts[NEIGHBOURS] = shown
        origin = CheckpointProvenance(spec.id, (scene_hash, *earlier_scene_hashes), config, self.image_ids)
        self.checkpoint = ModelCheckpoint(
            folder, checkpoint_dir or folder, origin, self.model, self.parts, self._description
        )

    @property
    def fraction(self) -> float:
        """How much of the budget is used: steps or clock, whichever is further."""
        return min(1.0, max(self.step / self.total_steps, self.spent_s / self.budget_s))

    def train(self, should_stop: Callable[[], bool] = lambda: False) -> BlockResult:
        """Trains to the end of the budget.

        When `should_stop` says so, between two steps, saves and raises KeyboardInterrupt.
        """
        next_save_s = self.spent_s + 60 * self.config.training.checkpoint_minutes
        if self.group.is_first:
            self.metrics.start(self.step)
        try:
            while self.fraction < 1:
                self.train_iteration()
                stop = self.group.any(should_stop())
                if not stop and self.spent_s >= next_save_s:
                    self._or_warn(self.save)
                    next_save_s = self.spent_s + 60 * self.config.training.checkpoint_minutes
                if stop:
                    self.save()
                    log.info("Block %s is saved at step %d (%.0f %%).", self.spec.id, self.step, 100 * self.fraction)
                    raise KeyboardInterrupt
            return self.finish()
        finally:
            self.metrics.close()

    def train_iteration(self) -> dict[str, Tensor]:
        """One step, and what is due after it: figures, validation, pictures, a state that is kept.

        Returns the terms of its loss by name, unweighted.
        """
        begin, stage = time.perf_counter(), self.stage if self.step else None
        terms, norm = self._train_step()
        (self.spent_s,) = self.group.of_first(self.spent_s + time.perf_counter() - begin)
        begins_stage = self.stages.enabled and self.stage != stage
        if begins_stage or self.step % self.config.logging.log_freq == 0:
            self._log(terms, norm)
        if self.fraction == 1:
            pass  # `finish` validates and shows
        elif self._is_validated(self.step):
            self._gather()
            if self.group.is_first:
                self._validate()
        elif self._shows_pictures(self.step):
            self._show_pictures()
        keep_every = self._steps(self.config.validation.save_freq)
        if keep_every is not None and self.step % keep_every == 0:
            self._gather()
            if self.group.is_first:
                self._or_warn(lambda: self.checkpoint.keep(self.step))
        return terms

    def save(self) -> None:
        """Writes what training goes on from and what renders."""
        self._gather()
        if self.group.is_first:
            self.checkpoint.save()
            self.saved()

    def _gather(self) -> None:
        """Brings together what processes of a group have of their own."""
        self.other_rngs = self.group.gather(self.rng.get_state())[1:]
        average_counts(self.group, self.model)

    def resume(self, name: str = CHECKPOINT) -> bool:
        """Goes back to the last checkpoint, exactly; False where there is none."""
        return self.checkpoint.resume(name)

    def state(self) -> dict[str, Any]:
        own = {"step": self.step, "spent_s": self.spent_s, "recent_mse": self.recent_mse, "stage": self.stage}
        own["restarts_done"] = self.restarts_done
        return {**own, "sampler": self.sampler.state(), "rng": torch.stack([self.rng.get_state(), *self.other_rngs])}

    def restore(self, state: dict[str, Any]) -> None:
        self.step, self.spent_s, self.recent_mse = state["step"], state["spent_s"], state["recent_mse"]
        self._enter_stage(state["stage"])
        self.restarts_done = state.get("restarts_done", 0)
        self.sampler.restore(state["sampler"])
        if len(state["rng"]) != self.group.size:
            raise UserError(
                f"The checkpoint of block {self.spec.id} is of {len(state['rng'])} processes that trained together, "
                f"and now there are {self.group.size}. Go on with as many, or train the block anew with --overwrite."
            )
        self.rng.set_state(state["rng"][self.group.rank])

    def _or_warn(self, write: Callable[[], None]) -> None:
        """A full disk must not end training: there may be room again at the next save."""
        try:
            write()
        except UserError as error:
            log.warning("Block %s goes on unsaved. %s", self.spec.id, error)

    def _sampler(self, level: int, stage: int) -> PixelSampler:
        dataset, seed = self.config.dataset, self.config.training.seed
        budget_gb = self.config.training.ram_budget_gb
        return PixelSampler(
            *(self.store, self.image_ids, dataset.batch_size * self.group.size),
            seed if stage == 0 else derive_seed(seed, "stage", stage),
            level,
            self.tiles,
            patch_size=dataset.patch_size if self.config.needs_patches else 0,
            patch_share=dataset.patch_share,
            rays_per_image=dataset.num_rays_per_image,
            budget_bytes=None if budget_gb is None else int(budget_gb * 1e9),
        )

    def _steps_per_epoch(self, sampler: PixelSampler) -> int:
        return math.ceil(sampler.pixels_per_pass / sampler.batch_size)

    def _enter_stage(self, number: int) -> None:
        """Draws from the stage's level from its first pixel on, and lets its components learn."""
        stage = self.stages.stages[number]
        self.stage = number
        self.sampler = self._sampler(stage.level, number)
        self.steps_per_epoch = self._steps_per_epoch(self.sampler)
        self.model.set_trainable(stage.config.components)
        if self.sampler.resident_share < 1:
            log.info(
                "Block %s has more pixels than training.ram_budget_gb=%g; %.2g %% of them are in memory at a time.",
                *(self.spec.id, self.config.training.ram_budget_gb, 100 * self.sampler.resident_share),
            )
        if self.stages.enabled:
            log.info(
                "Block %s, step %d: stage %r, images of up to %d pixels a side, learns %s.",
                *(self.spec.id, self.step, stage.config.name, self.store.longer_side(self.image_ids, stage.level)),
                ", ".join(stage.config.components),
            )

    def _rates(self) -> dict[str, float]:
        return self.scheduler.rates(self.step, self.stages.epoch_share(self.fraction))

    def _train_step(self) -> tuple[dict[str, Tensor], float]:
        reached = self.stages.stage_at(self.fraction)
        if reached > self.stage:  # never back: a longer budget may put a resumed block into a stage that is behind it
            self._enter_stage(reached)
        dataset = self.config.dataset
        batch = self.sampler.next(dataset.precrop_frac if self.step < dataset.precrop_iters else 1.0)
        batch = batch.part(self.group.rank, self.group.size)
        self.model.set_num_samples(self.stages.stages[self.stage].config.num_samples)
        self._restart_field()
        self.model.set_progress(self.fraction, self.restarts.since(self.fraction))
        rng = self._rng_of_step()
        terms = self.memory.backward(batch, lambda part: self._loss_of(part, rng), rng)
        terms = self.exchange.add(terms)
        is_whole, norm = self.memory.gradients_are_finite(), 0.0
        if self._shows_pictures(self.step + 1):
            gradients = self.optimizer.gradients_by_name(self.model)
            self.metrics.histograms(((f"gradient/{name}", of_it) for name, of_it in gradients), self.step + 1)
        if is_whole:
            norm = self.optimizer.step(self._rates())
        else:
            self.optimizer.clear()
        self.step += 1
        mse = float(terms["mse"])
        self.recent_mse = mse if self.recent_mse is None else 0.98 * self.recent_mse + 0.02 * mse
        return terms, norm

    def _restart_field(self) -> None:
        """Begins the field anew where that is due and it learns; poses rest until it knows something again."""
        due, components = self.restarts.behind(self.fraction), self.stages.stages[self.stage].config.components
        if self.restarts.count == 0 or "nerf" not in components:
            return
        if due > self.restarts_done:
            self.restarts_done = due
            self.model.restart_field(generator(self.config.training.seed, "train", self.spec.id, "restart", due))
            self.optimizer.restart_field()
        poses_rest = self.restarts.poses_rest(self.fraction)
        self.model.set_trainable([name for name in components if not (poses_rest and name == "pose")])

    def _rng_of_step(self) -> torch.Generator:
        """What draws the step's samples. One of another device is seeded anew: a checkpoint then fits any device."""
        if self.model.device.type == "cpu":
            return self.rng
        seed = int(torch.randint(2**62, (), generator=self.rng))
        return torch.Generator(self.model.device).manual_seed(seed)

    def _loss_of(self, batch: PixelBatch, rng: torch.Generator | None) -> tuple[Tensor, dict[str, Tensor]]:
        share = len(batch.rays) / self.config.dataset.batch_size
        shared = [] if self.shown is None else self.shown.at(self.step, share)
        device = self.model.device
        batch, shared = on_device(batch, device), [on_device(each, device) for each in shared]
        with default_device(device):
            total, terms = self.loss(self.model, batch, rng, shared)
        if not bool(total.isfinite()):
            raise self._broken(batch, terms)
        return total, terms

    def _broken(self, batch: PixelBatch, terms: dict[str, Tensor]) -> UserError:
        """What to say of a loss that is not finite; the batch is written.

        Where the batch itself is at fault, what was learned so far is saved. Otherwise weights have grown too large,
        finite or not: nobody could go on from them, and what was saved before stays.
        """
        path = self.folder / "broken_batch.safetensors"
        self._or_warn(lambda: write_broken_batch(path, batch, self.image_ids, terms))
        advice = "Its pixels are finite, so weights have grown too large: lower training.nerf_lr"
        goes_on = "its last checkpoint" if self.checkpoint.exists() else "its beginning"
        if not is_finite(batch):
            advice = "It holds what is no number itself: mend those images"
            if self.group.size == 1 and not isinstance(self.shown, NeighbourTargets):
                self._or_warn(self.save)
                goes_on = "this step"
        broken = [name for name, term in terms.items() if not bool(term.isfinite()) and name != "mse"]
        images = [self.image_ids[slot] for slot in batch.rays.image_slots.unique().tolist()]
        named = listed(images, MOST_NAMED)
        return UserError(
            f"Training of block {self.spec.id} broke at step {self.step}: {', '.join(broken) or 'the sum of terms'} is "
            f"not finite on a batch of the images {named}, which is kept in {path}. {advice}, and run again with "
            f"--resume: it goes on from {goes_on}."
        )

    def _log(self, terms: dict[str, Tensor], norm: float) -> None:
        if not self.group.is_first:
            return
        progress = self._progress()
        self.report(progress)
        settings = self.config.training
        learning = set(self.stages.stages[self.stage].config.components) & set(settings.components)
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

    def _steps(self, epochs: float | None) -> int | None:
        return None if epochs is None else max(1, round(epochs * self.steps_per_epoch))

    def _is_validated(self, step: int) -> bool:
        return step % max(1, round(self.config.validation.val_freq * self.steps_per_epoch)) == 0

    def _shows_pictures(self, step: int) -> bool:
        """Whether TensorBoard is shown pictures and histograms of gradients at this step."""
        every = self.config.logging.image_log_freq
        return self.metrics.shows_pictures and (self._is_validated(step) or (every is not None and step % every == 0))

    def _test_images(self) -> list[str]:
        """Those that validations render."""
        candidates = [image_id for image_id in self.spec.test_images if image_id in self.store.records]
        return evenly_picked(candidates, self.config.validation.num_val_images)

    def _render_test_views(self, image_ids: list[str]) -> list[ValidationView]:
        self.model.set_num_samples(None)
        return [
            render_test_view(self.model, self.store, image_id, self.config.dataset.val_batch_size)
            for image_id in image_ids
        ]

    def _show_pictures(self) -> None:
        for view in self._render_test_views(self._test_images()[:1]):
            self.metrics.images(view.panels, self.step)

    def _validate(self) -> float | None:
        """Mean PSNR of the validation's test images; keeps the best weights. Writes pictures where they are wanted."""
        views = self._render_test_views(self._test_images())
        self._or_warn(lambda: self._write_pictures(views))
        for view in views[:1]:
            self.metrics.images(view.panels, self.step)
        figures = figures_of(views)
        if not figures:
            return None
        shown = f"validation PSNR {figures['psnr']:.2f} dB over {len(views)} images"
        log.info("Block %s, step %d: %s.", self.spec.id, self.step, shown)
        self.metrics.log(self._validation_losses(views), self.step)
        if self.metrics.validated(figures, self.step):
            self._or_warn(self.checkpoint.save_best)
        return figures["psnr"]

    def _validation_losses(self, views: list[ValidationView]) -> dict[str, float]:
        """Means over the views that have a pixel to compare, unweighted."""
        terms = [self.loss.of_view(view, self.model.radius_m) for view in views if bool(view.valid.any())]
        names = dict.fromkeys(name for of_view in terms for name in of_view)
        return {
            f"validation/loss/{name}": fmean(float(of_view[name]) for of_view in terms if name in of_view)
            for name in names
        }

    def _write_pictures(self, views: list[ValidationView]) -> None:
        """Kinds side by side: photograph, render and distance of test views, render and distance of novel ones."""
        if self.render_dir is None:
            return
        validation, folder = self.config.validation, self.render_dir / f"step_{self.step:06d}"
        for view in views if validation.render_test_views else ():
            panels = [view.panels[kind] for kind in ("truth", "render", "distance")]
            write_png(folder / f"test_{word_of(view.record.name)}.png", to_bytes(torch.cat(panels, 1)))
        count = validation.num_val_images if validation.render_novel_views else 0
        for number, render in enumerate(render_novel_views(self.model, self.store, self.image_ids, count)):
            panels = [render.rgb, distance_colours(render)]
            write_png(folder / f"novel_{number:02d}.png", to_bytes(torch.cat(panels, 1)))

    def finish(self) -> BlockResult:
        """Validates, and writes the block as it is to stay."""
        self._or_warn(self.save)
        val_psnr = None
        if self.group.is_first:
            val_psnr = self._validate()
            self.checkpoint.finish()
        progress = self._progress()
        self.report(progress)
        return BlockResult(self.spec.id, self.step, self.spent_s, progress.rays_per_s, val_psnr)

    def _description(self) -> BlockMeta:
        return BlockMeta(
            block_id=self.spec.id,
            scene_hash=self.scene_hash,
            anchor_world=self.spec.anchor_world,
            step=self.step,
            spent_s=self.spent_s,
            best_psnr=self.metrics.best.get("psnr"),
            image_ids=self.image_ids,
            drives=tuple(self.store.records[image_id].drive for image_id in self.image_ids),
            model=self.model.description(),
        )
