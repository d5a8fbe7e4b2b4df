"""Processes that train one block together: their ranks and their communication."""

import os
from collections.abc import Sequence
from datetime import timedelta
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor

from blocknerf.core.errors import UserError
from blocknerf.core.logging import log

PATIENCE = timedelta(minutes=30)
"""How long processes wait for each other: the first one decodes photographs and renders validation pictures alone."""
ENVIRONMENT = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


class ProcessGroup:
    """One process among `size`; alone it is the first of one, and communication returns its inputs.

    Processes call the same methods in the same order. If one has ended, the others raise UserError.
    """

    def __init__(self, rank: int = 0, size: int = 1):
        self.rank, self.size = rank, size

    @classmethod
    def join(cls, backend: Literal["nccl", "gloo"]) -> "ProcessGroup":
        """Joins the group that `torchrun` names in the environment; gloo stands in for nccl where there is no CUDA.

        With nccl, gloo still carries tensors on the CPU. Raises UserError if the environment names no group, or the
        others cannot be reached.
        """
        missing = [name for name in ENVIRONMENT if name not in os.environ]
        if missing:
            raise UserError(
                f"--distributed needs {', '.join(missing)} in the environment, which torchrun sets: run "
                "`torchrun --nproc-per-node 2 -m blocknerf train --distributed ...`."
            )
        if backend == "nccl" and not torch.cuda.is_available():
            log.info("There is no CUDA device; processes talk through gloo instead of nccl.")
            backend = "gloo"
        try:
            dist.init_process_group("cpu:gloo,cuda:nccl" if backend == "nccl" else backend, timeout=PATIENCE)
        except (RuntimeError, ValueError) as error:
            raise UserError(f"The processes of this run cannot find each other: {error}") from error
        return cls(dist.get_rank(), dist.get_world_size())

    @staticmethod
    def is_named() -> bool:
        """Whether the environment names a group to join."""
        return all(name in os.environ for name in ENVIRONMENT)

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and prints messages."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """This process's part of `count` items; `count` is a multiple of the number of processes."""
        part = count // self.size
        return slice(self.rank * part, (self.rank + 1) * part)

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Replaces each tensor by the sum over all processes, in one message per device. All processes get the same
        bytes."""
        if self.size == 1:
            return
        for device in dict.fromkeys(tensor.device for tensor in tensors):
            self._add_on_device([tensor for tensor in tensors if tensor.device == device])

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replaces each tensor by the mean over all processes, as `add` does."""
        self.add(tensors)
        for tensor in tensors:
            tensor /= self.size

    def _add_on_device(self, tensors: Sequence[Tensor]) -> None:
        together = torch.cat([tensor.reshape(-1) for tensor in tensors])
        self._call(dist.all_reduce, together)
        parts = together.split([tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view_as(tensor))

    def unite(self, flags: Tensor) -> None:
        """Sets flags (0 or 1) that are set in any process."""
        if self.size > 1:
            self._call(dist.all_reduce, flags, op=dist.ReduceOp.MAX)

    def of_first(self, *numbers: float) -> list[float]:
        """The first process's numbers."""
        if self.size == 1:
            return list(numbers)
        message = torch.tensor(numbers, dtype=torch.float64)
        self._call(dist.broadcast, message, src=0)
        return message.tolist()

    def any(self, value: bool) -> bool:
        """Whether it is true in any process."""
        if self.size == 1:
            return value
        flag = torch.tensor([value], dtype=torch.uint8)
        self.unite(flag)
        return bool(flag)

    def gather(self, tensor: Tensor) -> list[Tensor]:
        """Every process's tensor, by rank; all have one shape."""
        if self.size == 1:
            return [tensor]
        parts = [torch.empty_like(tensor) for _ in range(self.size)]
        self._call(dist.all_gather, parts, tensor)
        return parts

    def wait(self) -> None:
        """Waits for all processes."""
        self.any(False)

    def leave(self) -> None:
        if self.size > 1:
            dist.destroy_process_group()

    def _call(self, message, *arguments, **options) -> None:
        try:
            message(*arguments, **options)
        except RuntimeError as error:
            raise UserError(
                f"Process {self.rank} of {self.size} waits for one that has ended; its message is above. The "
                "same command with --resume resumes from the last checkpoint."
            ) from error


ALONE = ProcessGroup()
