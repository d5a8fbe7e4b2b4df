"""The training of one block: batches, steps, validation, files."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from blocknerf.blocks.plan import BlockSpec
from blocknerf.city.block_file import BlockFile, delete_block, has_block, read_block, write_block
from blocknerf.core.config import Config
from blocknerf.core.errors import UserError
from blocknerf.core.logging import log
from blocknerf.core.seeds import derive_seed, generator
from blocknerf.core.types import Exposures
from blocknerf.models.block_nerf import BlockNeRF
from blocknerf.rendering.quality import psnr
from blocknerf.scene.sampler import PixelSampler, Tiles
from blocknerf.scene.store import ImageStore
from blocknerf.training.curves import Curves
from blocknerf.training.losses import BlockNeRFLoss
from blocknerf.training.optimizer import BlockOptimizer
from blocknerf.training.pose_setup import place_poses
from blocknerf.training.schedule import BlockNeRFScheduler
from blocknerf.training.stages import ProgressiveTrainer


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
    """Trains one block from its share of the images. Everything it learns goes to `folder`."""

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
    ):
        """`tiles`: which parts of its images the block is to learn first; none: all alike (see PixelSampler)."""
        self.config, self.spec, self.store = config, spec, store
        self.scene_hash, self.folder, self.report = scene_hash, folder, report
        self.image_ids = tuple(image_id for image_id in spec.train_images if image_id in store.records)
        if not self.image_ids:
            raise UserError(f"Block {spec.id} has no training image that can be decoded. Plan again.")
        settings = config.training
        self.rng = generator(settings.seed, "train", spec.id)
        drives = tuple(store.records[image_id].drive for image_id in self.image_ids)
        self.model = BlockNeRF(config, spec.center_world, spec.radius_m, self.image_ids, drives, self.rng, exposures)
        if self.model.poses is not None:
            place_poses(self.model.poses, config, store, self.image_ids, spec.radius_m)
        self.optimizer = BlockOptimizer(self.model, settings)
        self.loss = BlockNeRFLoss(settings)
        self.tiles = tiles
        self.scheduler = BlockNeRFScheduler(settings)
        sides = store.longer_sides(self.image_ids)
        self.stages = ProgressiveTrainer(settings, sides, lambda level: self._steps_per_epoch(self._sampler(level, 0)))
        all_epochs = self.stages.total_steps
        self.total_steps = min(all_epochs, settings.max_steps or all_epochs)
        self.budget_s = math.inf if settings.max_minutes is None else 60 * settings.max_minutes
        self.step = 0
        self.spent_s = 0.0
        self.best_psnr = -math.inf
        self.recent_mse = math.nan
        self.curves = Curves(tensorboard_dir)
        self._enter_stage(0)

    @property
    def fraction(self) -> float:
        """How much of the budget is used: steps or clock, whichever is further."""
        return min(1.0, max(self.step / self.total_steps, self.spent_s / self.budget_s))

    def train(self, should_stop: Callable[[], bool] = lambda: False) -> BlockResult:
        """Trains to the end of the budget.

        When `should_stop` says so, between two steps, saves and raises KeyboardInterrupt.
        """
        next_save_s = self.spent_s + 60 * self.config.training.checkpoint_minutes
        try:
            while self.fraction < 1:
                begin = time.perf_counter()
                terms, norm = self._train_step()
                self.spent_s += time.perf_counter() - begin
                if self.step % self.config.logging.log_freq == 0:
                    self._log(terms, norm)
                validate_every = max(1, round(self.config.validation.val_freq * self.steps_per_epoch))
                if self.step % validate_every == 0 and self.fraction < 1:
                    self._validate(self.config.validation.num_val_images)
                stop = should_stop()
                if not stop and self.spent_s >= next_save_s:
                    self._or_warn(self.save)
                    next_save_s = self.spent_s + 60 * self.config.training.checkpoint_minutes
                if stop:
                    self.save()
                    log.info("Block %s is saved at step %d (%.0f %%).", self.spec.id, self.step, 100 * self.fraction)
                    raise KeyboardInterrupt
            return self._finish()
        finally:
            self.curves.close()

    def save(self) -> None:
        """Writes `latest` (what renders) and `checkpoint` (what training goes on from)."""
        self._write("latest", finished=False)
        meta = {**self._meta(), "sampler": self.sampler.state()}
        tensors = {**self._weights(), **self.optimizer.state(), "rng": self.rng.get_state()}
        write_block(self.folder, "checkpoint", BlockFile(meta, tensors))

    def _or_warn(self, write: Callable[[], None]) -> None:
        """A full disk must not end training: there may be room again at the next save."""
        try:
            write()
        except UserError as error:
            log.warning("Block %s goes on unsaved. %s", self.spec.id, error)

    def resume(self) -> bool:
        """Goes back to the last checkpoint, exactly; False where there is none."""
        if not has_block(self.folder, "checkpoint"):
            return False
        saved = read_block(self.folder, "checkpoint")
        prefix = "model."
        weights = {name[len(prefix) :]: tensor for name, tensor in saved.tensors.items() if name.startswith(prefix)}
        if list(saved.meta["image_ids"]) != list(self.image_ids):
            raise UserError(
                f"The checkpoint in {self.folder} was trained on other images than the plan gives block "
                f"{self.spec.id}. Train it anew with --overwrite, or restore the plan."
            )
        self.model.load_state_dict(weights, strict=True)
        self.optimizer.restore(saved.tensors)
        self._enter_stage(int(saved.meta.get("stage", 0)))
        self.rng.set_state(saved.tensors["rng"])
        self.sampler.restore(saved.meta["sampler"])
        self.step, self.spent_s = int(saved.meta["step"]), float(saved.meta["spent_s"])
        self.best_psnr = -math.inf if saved.meta["best_psnr"] is None else float(saved.meta["best_psnr"])
        return True

    def _sampler(self, level: int, stage: int) -> PixelSampler:
        dataset, seed = self.config.dataset, self.config.training.seed
        return PixelSampler(
            self.store,
            self.image_ids,
            dataset.batch_size,
            seed if stage == 0 else derive_seed(seed, "stage", stage),
            level,
            self.tiles,
            dataset.num_rays_per_image,
        )

    def _steps_per_epoch(self, sampler: PixelSampler) -> int:
        return math.ceil(sampler.pixels_per_pass / self.config.dataset.batch_size)

    def _enter_stage(self, number: int) -> None:
        """Draws from the stage's level from its first pixel on, and lets its components learn."""
        stage = self.stages.stages[number]
        self.stage = number
        self.sampler = self._sampler(stage.level, number)
        self.steps_per_epoch = self._steps_per_epoch(self.sampler)
        self.model.learn(stage.config.components)
        if self.stages.enabled:
            log.info(
                "Block %s, step %d: stage %r, images of up to %d pixels a side, learns %s.",
                *(self.spec.id, self.step, stage.config.name, self.store.longer_sides(self.image_ids)[stage.level]),
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
        self.model.take_samples(self.stages.stages[self.stage].config.num_samples)
        self.model.advance(self.fraction)
        rng = self.rng if self.config.block_nerf.perturb_samples else None
        total, terms = self.loss(self.model, batch.rays, batch.rgb, rng)
        if not bool(total.isfinite()):
            broken = [name for name, term in terms.items() if not bool(term.isfinite())]
            raise UserError(
                f"Training of block {self.spec.id} broke at step {self.step}: {', '.join(broken)} is not finite. "
                "Lower training.nerf_lr and run again with --resume: it goes on from its last checkpoint."
            )
        total.backward()
        norm = self.optimizer.step(self._rates())
        self.step += 1
        mse = float(terms["rgb"])
        self.recent_mse = mse if math.isnan(self.recent_mse) else 0.98 * self.recent_mse + 0.02 * mse
        return terms, norm

    def _log(self, terms: dict[str, Tensor], norm: float) -> None:
        progress = self._progress()
        self.report(progress)
        learning = self.stages.stages[self.stage].config.components
        figures = {f"loss/{name}": float(term) for name, term in terms.items()}
        figures |= {f"rate/{name}": rate for name, rate in self._rates().items() if name in learning}
        figures |= {"train/psnr": progress.train_psnr, "train/rays_per_s": progress.rays_per_s}
        figures["train/gradient_norm"] = norm
        self.curves.scalars(figures, self.step)

    def _progress(self) -> Progress:
        return Progress(
            fraction=self.fraction,
            step=self.step,
            rays_per_s=self.step * self.config.dataset.batch_size / max(self.spent_s, 1e-9),
            train_psnr=-10 * math.log10(max(self.recent_mse, 1e-12)),
            remaining_s=self.spent_s * (1 / max(self.fraction, 1e-6) - 1),
        )

    def _validate(self, count: int) -> float | None:
        """Mean PSNR of up to `count` of the block's test images, evenly picked; keeps the best weights as `best`."""
        candidates = [image_id for image_id in self.spec.test_images if image_id in self.store.records]
        picked = evenly_picked(candidates, count)
        figures = []
        self.model.take_samples(None)
        for image_id in picked:
            height, width = self.store.size(image_id)
            record = self.store.records[image_id]
            code = self.model.code_for(None, record.drive, exposure=record.exposure)
            rays = self.model.refined_rays(self.store.rays(image_id), drive=record.drive)
            render = self.model.render(rays, code, self.config.dataset.val_batch_size).reshape(height, width)
            truth = torch.from_numpy(self.store.rgb(image_id).astype(np.float32) / 255)
            valid = torch.from_numpy(self.store.valid(image_id).copy())
            if bool(valid.any()):
                figures.append(psnr(render.rgb, truth, valid))
            if image_id == picked[0]:
                self.curves.image("validation/truth_render", torch.cat([truth, render.rgb.clamp(0, 1)], 1), self.step)
        if not figures:
            return None
        mean = float(np.mean(figures))
        log.info(
            "Block %s, step %d: validation PSNR %.2f dB over %d images.", self.spec.id, self.step, mean, len(figures)
        )
        self.curves.scalars({"validation/psnr": mean}, self.step)
        if mean > self.best_psnr:
            self.best_psnr = mean
            self._or_warn(lambda: self._write("best", finished=False))
        return mean

    def _finish(self) -> BlockResult:
        self._or_warn(self.save)
        val_psnr = self._validate(self.config.validation.num_val_images)
        self._write("latest", finished=True)
        delete_block(self.folder, "checkpoint")
        progress = self._progress()
        self.report(progress)
        return BlockResult(self.spec.id, self.step, self.spent_s, progress.rays_per_s, val_psnr)

    def _write(self, name: str, finished: bool) -> None:
        meta = {**self._meta(), "finished": finished}
        write_block(self.folder, name, BlockFile(meta, self.model.state_dict()))

    def _meta(self) -> dict[str, Any]:
        return {
            "block_id": self.spec.id,
            "scene_hash": self.scene_hash,
            "anchor_world": list(self.spec.anchor_world),
            "step": self.step,
            "stage": self.stage,
            "spent_s": self.spent_s,
            "best_psnr": self.best_psnr if math.isfinite(self.best_psnr) else None,
            "image_ids": list(self.image_ids),
            "drives": [self.store.records[image_id].drive for image_id in self.image_ids],
            "model": self.model.description(),
        }

    def _weights(self) -> dict[str, Tensor]:
        return {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}


def evenly_picked(names: list[str], count: int) -> list[str]:
    """Up to `count` of the names, spread over the list, each once."""
    if not names or count == 0:
        return []
    return [names[i] for i in np.unique(np.linspace(0, len(names) - 1, count).round().astype(int))]
