"""What processes that train one block together exchange."""

import torch
from torch import Tensor

from blocknerf.core.errors import UserError
from blocknerf.models.block_nerf import BlockNeRF
from blocknerf.runtime.process_group import ProcessGroup
from blocknerf.training.block.optimizer import BlockOptimizer


class GradientSync:
    """Gives every process of a group the gradient of the whole batch, so that their weights stay identical bit for bit.

    DistributedDataParallel of torch cannot do this: most parameters of a block are rows of tables, and it does not see
    their gradients. With `find_unused_parameters`, a parameter that no ray of a process reached has gradient zero in
    that process; without it, this is an error that names the parameter.
    """

    def __init__(self, group: ProcessGroup, model: BlockNeRF, optimizer: BlockOptimizer, find_unused_parameters: bool):
        self.group, self.optimizer = group, optimizer
        self.find_unused = find_unused_parameters
        self.names = {id(parameter): name for name, parameter in model.named_parameters()}

    def add(self, terms: dict[str, Tensor]) -> dict[str, Tensor]:
        """Adds up the gradients and loss terms of all processes.

        Raises UserError for a parameter without gradient, unless `find_unused_parameters` is set.
        """
        if self.group.size == 1:
            return terms
        for parameter in self.optimizer.parameters():
            if parameter.grad is None and parameter.requires_grad:
                self._fill(parameter)
        self.group.add(list(self.optimizer.gradients_of_all()))
        sums = torch.stack([terms[name].to(torch.float64) for name in terms])
        self.group.add([sums])
        return dict(zip(terms, sums.float(), strict=True))

    def _fill(self, parameter: Tensor) -> None:
        if not self.find_unused:
            raise UserError(
                f"No ray of process {self.group.rank} reached {self.names[id(parameter)]}, and "
                "distributed.find_unused_parameters is false. Set it to true."
            )
        parameter.grad = torch.zeros_like(parameter)


def average_counts(group: ProcessGroup, model: BlockNeRF) -> None:
    """Averages how often training rays passed each place: every process counts its own rays."""
    if group.size > 1 and model.visibility is not None:
        group.average([model.visibility.sights.stopped, model.visibility.sights.travelled])
        model.visibility.sights.refresh()
