"""One step of a block: loss, gradients, and the update of all parameters that learn."""

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from blocknerf.core.seeds import generator
from blocknerf.core.types import on_device
from blocknerf.models.block_nerf import BlockNeRF
from blocknerf.runtime.devices import default_device
from blocknerf.runtime.process_group import ProcessGroup
from blocknerf.scene.sampler import PixelBatch
from blocknerf.training.block.field_restarts import FieldRestarts
from blocknerf.training.block.gradient_sync import GradientSync
from blocknerf.training.block.inputs import BlockInputs
from blocknerf.training.block.losses.block_nerf_loss import BlockNeRFLoss
from blocknerf.training.block.memory import MemoryOptimizer
from blocknerf.training.block.neighbour_targets import SharedBorders
from blocknerf.training.block.optimizer import BlockOptimizer


class BrokenLossError(Exception):
    """The loss of `batch` is not finite; `terms` by name, unweighted."""

    def __init__(self, batch: PixelBatch, terms: Mapping[str, Tensor]):
        super().__init__("the loss is not finite")
        self.batch, self.terms = batch, terms


class TrainingStep:
    """Takes the steps of one block: `backward`, then `apply`. All processes of a `group` call them together."""

    def __init__(self, inputs: BlockInputs, model: BlockNeRF, group: ProcessGroup, neighbours: SharedBorders | None):
        config = inputs.config
        self.config, self.block_id, self.model, self.neighbours = config, inputs.spec.id, model, neighbours
        self.loss = BlockNeRFLoss(config.training)
        self.optimizer = BlockOptimizer(model, config.training)
        self.memory = MemoryOptimizer(model, self.optimizer, config.training, config.dataset.batch_size)
        self.sync = GradientSync(group, model, self.optimizer, config.distributed.find_unused_parameters)
        restarts_field = model.learns_poses and inputs.learned is None  # what was learned stays
        self.restarts = FieldRestarts(config.pose_refinement.field_restarts if restarts_field else 0)
        self.restarts_done = 0
        self._is_finite = True

    def set_progress(self, fraction: float, components: Collection[str], num_samples: Any) -> None:
        """Sets what learns at `fraction` of the run, among `components`; restarts the field when that is due."""
        self.model.set_num_samples(num_samples)
        if self.restarts.count > 0 and "nerf" in components:
            self._restart_field(fraction)
            poses_rest = self.restarts.poses_rest(fraction)
            self.model.set_trainable([name for name in components if not (poses_rest and name == "pose")])
        self.model.set_progress(fraction, self.restarts.since(fraction))

    def backward(self, batch: PixelBatch, step: int, rng: torch.Generator) -> dict[str, Tensor]:
        """Computes the gradient of the mean loss over the batches of all processes. Returns its terms, unweighted.

        Raises BrokenLossError if the loss is not finite.
        """
        rng = self._rng_of_step(rng)
        terms = self.memory.backward(batch, lambda part: self.loss_of(part, step, rng), rng)
        terms = self.sync.add(terms)
        self._is_finite = self.memory.gradients_are_finite()
        return terms

    def apply(self, rates: Mapping[str, float]) -> float:
        """Updates the parameters; returns the gradient's norm. A step whose gradient overflowed is skipped."""
        if self._is_finite:
            return self.optimizer.step(rates)
        self.optimizer.clear()
        return 0.0

    def loss_of(self, batch: PixelBatch, step: int, rng: torch.Generator | None) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted total of a batch or of a part of one, and its terms."""
        share = len(batch.rays) / self.config.dataset.batch_size
        shared = [] if self.neighbours is None else self.neighbours.at(step, share)
        device = self.model.device
        batch, shared = on_device(batch, device), [on_device(rays, device) for rays in shared]
        with default_device(device):
            total, terms = self.loss(self.model, batch, rng, shared)
        if not bool(total.isfinite()):
            raise BrokenLossError(batch, terms)
        return total, terms

    def _restart_field(self, fraction: float) -> None:
        due = self.restarts.behind(fraction)
        if due > self.restarts_done:
            self.restarts_done = due
            self.model.restart_field(generator(self.config.training.seed, "train", self.block_id, "restart", due))
            self.optimizer.restart_field()

    def _rng_of_step(self, rng: torch.Generator) -> torch.Generator:
        """Generator of the step's samples. On another device, a new one is seeded, so a checkpoint fits any device."""
        if self.model.device.type == "cpu":
            return rng
        seed = int(torch.randint(2**62, (), generator=rng))
        return torch.Generator(self.model.device).manual_seed(seed)
