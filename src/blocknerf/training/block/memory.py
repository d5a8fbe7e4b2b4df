"""How a step fits into memory: half precision, gradient checkpointing, and a batch in parts."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from blocknerf.core.config.training import TrainingConfig
from blocknerf.core.errors import UserError
from blocknerf.core.logging import log
from blocknerf.models.block_nerf import BlockNeRF
from blocknerf.runtime.memory import held_gb, is_out_of_memory
from blocknerf.runtime.precision import LossScale, half_precision
from blocknerf.scene.sampler import PixelBatch
from blocknerf.training.block.optimizer import BlockOptimizer

Loss = Callable[[PixelBatch], tuple[Tensor, dict[str, Tensor]]]

FIRST_RAYS, LEAST_RAYS = 256, 16
BACKWARD = 1.25
"""The backward pass needs about a quarter more memory than the forward pass."""


class AdaptiveBatchSize:
    """Rays in one part of a step: doubled while the process stays below its limit, halved when memory runs out.

    Without a limit, it begins with the whole batch. It never grows back to a size at which memory ran out.
    """

    def __init__(self, initial_batch_size: int, memory_limit_gb: float | None = None):
        self.limit_gb = memory_limit_gb
        self.largest = initial_batch_size
        self.size = initial_batch_size if memory_limit_gb is None else min(FIRST_RAYS, initial_batch_size)

    def shrink(self) -> None:
        """Halves the size after memory ran out. Raises UserError if parts cannot be smaller."""
        if self.size <= LEAST_RAYS:
            raise UserError(
                f"Memory runs out even with {self.size} rays at a time. Set training.use_gradient_checkpointing=true, "
                "take fewer samples or a smaller field (block_nerf), or train fewer blocks at once (--jobs)."
            )
        self.size = self.largest = max(LEAST_RAYS, self.size // 2)

    def observe(self, before_gb: float, held_gb: float) -> None:
        """Takes the memory before a part of `size` rays and after its forward pass."""
        if self.limit_gb is None:
            return
        part_gb = max(BACKWARD * (held_gb - before_gb), 0.0)
        if before_gb + part_gb > self.limit_gb:
            self.size = max(LEAST_RAYS, self.size // 2)
        elif before_gb + 2 * part_gb < self.limit_gb:
            self.size = min(2 * self.size, self.largest)

    def state(self) -> dict[str, int]:
        return {"size": self.size, "largest": self.largest}

    def restore(self, state: dict[str, int]) -> None:
        self.size, self.largest = state["size"], state["largest"]


class MemoryOptimizer:
    """Prepares a model as `training` says, and runs its backward passes."""

    def __init__(self, model: BlockNeRF, optimizer: BlockOptimizer, config: TrainingConfig, batch_size: int):
        self.optimizer = optimizer
        self.device_type = model.device_type
        if config.use_gradient_checkpointing:
            model.enable_gradient_checkpointing()
        if config.use_mixed_precision:
            model.half = half_precision(self.device_type)
            if model.half is None:
                log.warning("This processor cannot multiply bfloat16; training uses float32.")
            elif model.half is torch.bfloat16 and model.config.block_nerf.worker == "numba":
                # Torch computes too little here: half precision in it made a step 12 % longer (docs/results.md).
                model.half = None
                log.warning(
                    "training.use_mixed_precision has no effect for the hash backbone on a processor: its kernels "
                    "use float32."
                )
        self.scale = LossScale() if model.half is torch.float16 else None
        self.parts = AdaptiveBatchSize(batch_size, config.memory_limit_gb)

    def backward(self, batch: PixelBatch, loss: Loss, rng: torch.Generator | None) -> dict[str, Tensor]:
        """Computes the gradient of the mean loss over the batch, in as many parts as needed, and returns its terms.

        Both are multiplied by `batch.share`, if the batch itself is one process's part of a larger batch.

        `loss` draws from `rng`. If memory runs out, `rng` is reset and the step is repeated in smaller parts. Raises
        UserError if memory runs out even with the smallest parts.
        """
        drawn = None if rng is None else rng.get_state()
        while True:
            try:
                return self._in_parts(batch, loss)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
            self.optimizer.clear()
            if rng is not None and drawn is not None:
                rng.set_state(drawn)
            self.parts.shrink()
            log.warning("Memory ran out; from now on, a step has parts of %d rays.", self.parts.size)

    def gradients_are_finite(self) -> bool:
        """False if a step in float16 overflowed, which happens now and then; the step must be skipped."""
        return self.scale is None or self.scale.unscale(self.optimizer.gradients_of_all())

    def state(self) -> dict[str, Any]:
        scale = None if self.scale is None else [self.scale.scale, self.scale.good_steps]
        return {"parts": self.parts.state(), "loss_scale": scale}

    def restore(self, state: dict[str, Any]) -> None:
        self.parts.restore(state["parts"])
        if self.scale is not None and state["loss_scale"] is not None:
            self.scale.scale, self.scale.good_steps = state["loss_scale"]

    def _in_parts(self, batch: PixelBatch, loss: Loss) -> dict[str, Tensor]:
        means: dict[str, Tensor] = {}
        for part in batch.parts(self.parts.size):
            before_gb = held_gb(self.device_type) if self.parts.limit_gb is not None else 0.0
            total, terms = loss(part)
            if self.parts.limit_gb is not None:
                self.parts.observe(before_gb, held_gb(self.device_type))
            (total * (part.share * (1.0 if self.scale is None else self.scale.scale))).backward()
            shares = terms if part.share == 1 else {name: part.share * term for name, term in terms.items()}
            means = {name: means[name] + share for name, share in shares.items()} if means else shares
        return means
