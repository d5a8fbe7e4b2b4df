"""Blocks spread over processes, and one block whose rays are shared by several."""

import heapq
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from blocknerf.blocks.plan import BlockSpec
from blocknerf.core.errors import UserError
from blocknerf.models.block_nerf import BlockNeRF
from blocknerf.runtime.process_group import ProcessGroup
from blocknerf.training.optimizer import BlockOptimizer


def longest_first(blocks: Sequence[BlockSpec], minutes: Callable[[BlockSpec], float]) -> list[BlockSpec]:
    """The order in which idle workers take blocks, so that none is left with a long one at the end."""
    return sorted(blocks, key=lambda block: (-minutes(block), block.id))


def distribute_blocks(
    blocks: Sequence[BlockSpec], workers: int, minutes: Callable[[BlockSpec], float]
) -> list[list[BlockSpec]]:
    """Blocks by worker: the longest that is left goes to the worker with the least to do.

    The last worker ends at most 4/3 as late as under the best division (Graham 1969). With fewer blocks than workers
    some get none.
    """
    shares: list[list[BlockSpec]] = [[] for _ in range(workers)]
    loads = [(0.0, worker) for worker in range(workers)]
    for block in longest_first(blocks, minutes):
        load, worker = heapq.heappop(loads)
        shares[worker].append(block)
        heapq.heappush(loads, (load + minutes(block), worker))
    return shares


class GradientExchange:
    """Gives every process of a group the mean gradient, so that their weights stay the same to the bit.

    A torch DistributedDataParallel cannot: most of what a block learns are rows of tables, whose gradients it does not
    see. With `find_unused_parameters`, parameters that a process's rays did not reach count as zero there; without,
    they are an error that names them.
    """

    def __init__(self, group: ProcessGroup, model: BlockNeRF, optimizer: BlockOptimizer, find_unused_parameters: bool):
        self.group, self.optimizer = group, optimizer
        self.find_unused = find_unused_parameters
        self.names = {id(parameter): name for name, parameter in model.named_parameters()}

    def average(self) -> None:
        """Raises UserError for a parameter without gradient, unless those are to be found."""
        if self.group.size == 1:
            return
        for group in self.optimizer.dense.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    self._fill(parameter)
        self.group.average(list(self.optimizer.gradients_of_all()))
        for gradient in self.optimizer.gradients.values():
            self.group.unite(gradient.seen)

    def _fill(self, parameter: Tensor) -> None:
        if not self.find_unused:
            raise UserError(
                f"No ray of process {self.group.rank} reached {self.names[id(parameter)]}, and "
                "distributed.find_unused_parameters is false. Set it to true."
            )
        parameter.grad = torch.zeros_like(parameter)


def average_counts(group: ProcessGroup, model: BlockNeRF) -> None:
    """Of what training rays met: every process counts its own."""
    if group.size > 1 and model.visibility is not None:
        group.average([model.visibility.sights.stopped, model.visibility.sights.travelled])
