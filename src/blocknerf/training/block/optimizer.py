"""Adam for one block: sparse for tables, ordinary for networks and codes, one learning rate per group."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain

import torch
from torch import Tensor, nn

from blocknerf.core.config.training import TrainingConfig
from blocknerf.kernels.dense_adam import AdamMoments, dense_adam_step
from blocknerf.kernels.row_gradient import nonzero_rows
from blocknerf.kernels.sparse_adam.ops import sparse_adam_step
from blocknerf.models.block_nerf import BlockNeRF


class BlockOptimizer:
    """Holds all moments; `state` and `restore` are exact. Frozen parameters keep their moments."""

    def __init__(self, model: BlockNeRF, config: TrainingConfig):
        """Raises TypeError for a field with a parameter that is neither of a table nor of its networks."""
        tables = model.field.sparse_tables()
        self._table_parameters = {
            name: list(table.parameters()) for name, table in tables.items() if isinstance(table, nn.Module)
        }
        _require_all_learn(model, self._table_parameters.values())
        self.step_count = 0
        self.config = config
        self.tables = {name: table.rows for name, table in tables.items()}
        self.rate_ratios = {name: table.rate_ratio for name, table in tables.items()}
        self.gradients = {name: torch.zeros_like(values) for name, values in self.tables.items()}
        self.moments = {
            name: (torch.zeros_like(values), torch.zeros_like(values)) for name, values in self.tables.items()
        }
        for name, table in tables.items():
            table.gradient = self.gradients[name]
        self.components = {name: list(parameters) for name, parameters in model.components().items()}
        self.dense: dict[Tensor, AdamMoments] = {}  # networks and codes, from their first gradient on

    def step(self, rates: Mapping[str, float]) -> float:
        """Applies and clears all gradients. `rates` are by component; gradients are clipped for each component.

        Returns the gradient norm of the field's networks before clipping. Raises TypeError for a table whose gradient
        went to `.grad`, which is never read.
        """
        networks = self.components["nerf"]
        field_learns = any(parameter.requires_grad for parameter in networks)
        self.step_count += field_learns
        clip_norm = self.config.gradient_clip_norm
        norm = float(nn.utils.clip_grad_norm_(networks, clip_norm))
        for component, parameters in self.components.items():
            decay = self.config.weight_decay if component == "nerf" else 0.0
            learning = [parameter for parameter in parameters if parameter.grad is not None]
            if component != "nerf" and learning:
                nn.utils.clip_grad_norm_(learning, clip_norm)
            for parameter in learning:
                if parameter not in self.dense:
                    self.dense[parameter] = AdamMoments.of(parameter)
            dense_adam_step(learning, [self.dense[parameter] for parameter in learning], rates[component], decay)
            for parameter in learning:
                parameter.grad = None
        for name, values in self.tables.items() if field_learns else ():
            if any(parameter.grad is not None for parameter in self._table_parameters.get(name, ())):
                raise TypeError(
                    f"The gradient of the table {name!r} is in its .grad, and is read from RowTable.gradient. Use the "
                    "table through kernels.row_gradient.redirect_grad."
                )
            rate = rates["nerf"] * self.rate_ratios[name]
            sparse_adam_step(values, self.gradients[name], *self.moments[name], self.step_count, rate)
        return norm

    def parameters(self) -> Iterator[Tensor]:
        """All parameters except tables, in the order of their numbers in `state`."""
        for parameters in self.components.values():
            yield from parameters

    def gradients_of_all(self) -> Iterator[Tensor]:
        """Gradients of networks, codes and tables, as they are stored."""
        yield from (parameter.grad for parameter in self.parameters() if parameter.grad is not None)
        yield from self.gradients.values()

    def clear(self) -> None:
        """Deletes all gradients."""
        for parameter in self.parameters():
            parameter.grad = None
        for gradient in self.gradients.values():
            gradient.zero_()

    def restart_field(self) -> None:
        """Resets the moments of the field's tables and networks, as for a new field."""
        self.step_count = 0
        for first, second in self.moments.values():
            first.zero_()
            second.zero_()
        for parameter in self.components["nerf"]:
            self.dense.pop(parameter, None)

    def gradients_by_name(self, model: BlockNeRF) -> Iterator[tuple[str, Tensor]]:
        """Gradients after `backward` and before `step`, by parameter; for tables, only rows that have one."""
        for name, gradient in self.gradients.items():
            yield name, gradient[nonzero_rows(gradient)]
        for name, parameter in model.named_parameters():
            if parameter.grad is not None:
                yield name, parameter.grad

    def state(self) -> dict[str, Tensor]:
        tensors = {"step": torch.tensor(self.step_count)}
        for name, (first, second) in self.moments.items():
            tensors[f"{name}.first"], tensors[f"{name}.second"] = first, second
        for number, parameter in enumerate(self.parameters()):
            moments = self.dense.get(parameter)
            if moments is not None:
                tensors[f"dense.{number}.exp_avg"], tensors[f"dense.{number}.exp_avg_sq"] = (
                    moments.first,
                    moments.second,
                )
                tensors[f"dense.{number}.step"] = moments.step
        return tensors

    def restore(self, state: dict[str, Tensor]) -> None:
        self.step_count = int(state["step"])
        for name, (first, second) in self.moments.items():
            first.copy_(state[f"{name}.first"])
            second.copy_(state[f"{name}.second"])
        for number, parameter in enumerate(self.parameters()):
            if f"dense.{number}.step" in state:
                moments = self.dense[parameter] = AdamMoments.of(parameter)
                moments.first.copy_(state[f"dense.{number}.exp_avg"])
                moments.second.copy_(state[f"dense.{number}.exp_avg_sq"])
                moments.step.copy_(state[f"dense.{number}.step"])


def _require_all_learn(model: BlockNeRF, of_tables: Iterable[Sequence[nn.Parameter]]) -> None:
    known = {id(parameter) for parameter in chain(*of_tables, model.field.networks())}
    of_field = [(name, parameter) for name, parameter in model.named_parameters() if name.startswith("field.")]
    unknown = [name for name, parameter in of_field if id(parameter) not in known]
    if unknown:
        raise TypeError(
            f"Nothing moves {', '.join(unknown)}: a parameter of a field is one of its networks() or of a table of its "
            "sparse_tables()."
        )
