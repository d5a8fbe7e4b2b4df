"""Adam for one block: sparse on the tables, ordinary on networks and codes, one rate a group."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from blocknerf.core.config import TrainingConfig
from blocknerf.kernels.row_gradient import RowGradient
from blocknerf.kernels.sparse_adam import sparse_adam_step
from blocknerf.models.block_nerf import BlockNeRF

PROPOSAL_RATE_RATIO = 10.0  # log densities are in nats: they must move further than features do


class BlockOptimizer:
    """Holds every moment; `state` and `restore` are exact. What is frozen (`BlockNeRF.learn`) keeps its moments."""

    def __init__(self, model: BlockNeRF, config: TrainingConfig):
        self.step_count = 0
        self.config = config
        self.tables = {name: table.rows for name, table in model.field.row_tables().items()}
        self.gradients = {name: RowGradient(torch.zeros_like(values)) for name, values in self.tables.items()}
        self.moments = {
            name: (torch.zeros_like(values), torch.zeros_like(values)) for name, values in self.tables.items()
        }
        for name, table in model.field.row_tables().items():
            table.gradient = self.gradients[name]
        components = model.components()
        groups = [
            {"params": parameters, "weight_decay": config.weight_decay if name == "nerf" else 0.0, "name": name}
            for name, parameters in components.items()
        ]
        self.dense = torch.optim.Adam(groups, lr=config.nerf_lr, betas=(0.9, 0.99), eps=1e-15, fused=True)
        self.clipped = components["nerf"]

    def step(self, rates: dict[str, float]) -> float:
        """Applies and clears all gradients; `rates` by component. Returns the networks' norm before clipping."""
        field_learns = any(parameter.requires_grad for parameter in self.clipped)
        self.step_count += field_learns
        norm = float(nn.utils.clip_grad_norm_(self.clipped, self.config.gradient_clip_norm))
        for group in self.dense.param_groups:
            group["lr"] = rates[group["name"]]
        self.dense.step()
        self.dense.zero_grad(set_to_none=True)
        for name, values in self.tables.items() if field_learns else ():
            rate = rates["nerf"] * (PROPOSAL_RATE_RATIO if name == "proposal" else 1.0)
            sparse_adam_step(values, self.gradients[name], *self.moments[name], self.step_count, rate)
        return norm

    def gradients_of_all(self) -> Iterator[Tensor]:
        """Of networks, codes and tables, as they lie there."""
        for group in self.dense.param_groups:
            yield from (parameter.grad for parameter in group["params"] if parameter.grad is not None)
        yield from (gradient.values for gradient in self.gradients.values())

    def clear(self) -> None:
        """Gives up all gradients."""
        self.dense.zero_grad(set_to_none=True)
        for gradient in self.gradients.values():
            gradient.values.zero_()
            gradient.seen.zero_()

    def follow_growth(self, model: BlockNeRF) -> None:
        """After `BlockNeRF.grow`: takes the longer tables; old rows keep their moments, new ones have 0."""
        tables = {"appearance": None if model.appearance is None else model.appearance.residuals}
        tables["pose"] = getattr(model.poses, "shares", None)
        for group in self.dense.param_groups:
            new = tables.get(group["name"])
            if new is not None and group["params"][0] is not new:
                moments = self.dense.state.pop(group["params"][0], {})
                self.dense.state[new] = {name: _longer(value, new) for name, value in moments.items()}
                group["params"] = [new]

    def gradients_by_name(self, model: BlockNeRF) -> Iterator[tuple[str, Tensor]]:
        """After `backward` and before `step`: of each parameter that has one; of tables the rows that were touched."""
        for name, gradient in self.gradients.items():
            yield name, gradient.values[gradient.seen.bool()]
        for name, parameter in model.named_parameters():
            if parameter.grad is not None:
                yield name, parameter.grad

    def state(self) -> dict[str, Tensor]:
        tensors = {"step": torch.tensor(self.step_count)}
        for name, (first, second) in self.moments.items():
            tensors[f"{name}.first"], tensors[f"{name}.second"] = first, second
        for index, parameter in self.dense.state_dict()["state"].items():
            for key, value in parameter.items():
                tensors[f"dense.{index}.{key}"] = value
        return tensors

    def restore(self, tensors: dict[str, Tensor]) -> None:
        self.step_count = int(tensors["step"])
        for name, (first, second) in self.moments.items():
            first.copy_(tensors[f"{name}.first"])
            second.copy_(tensors[f"{name}.second"])
        dense = self.dense.state_dict()
        for key, value in tensors.items():
            if key.startswith("dense."):
                _, index, name = key.split(".")
                dense["state"].setdefault(int(index), {})[name] = value.clone()
        self.dense.load_state_dict(dense)


def _longer(moment: Tensor, table: Tensor) -> Tensor:
    """The moment with zeros for the table's new rows; the count of steps as it is."""
    if moment.dim() == 0:
        return moment
    return torch.cat([moment, moment.new_zeros(len(table) - len(moment), *moment.shape[1:])])
