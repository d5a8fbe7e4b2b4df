"""Whether every component of a block learns: the size of its gradient after one backward pass of the loss."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from blocknerf.core.config.training import TrainingConfig
from blocknerf.core.errors import listed
from blocknerf.diagnostics.findings import Finding
from blocknerf.models.backbones.interface import RowTable
from blocknerf.models.block_nerf import BlockNeRF

TOO_LARGE, TOO_SMALL = 100.0, 1e-8
"""Limits of a component's gradient norm, divided by the weight of its loss term."""


@dataclass(frozen=True, slots=True)
class ComponentGradient:
    """The gradient of one component: its norm, its largest entry, the share of its entries that are not zero.

    `weight` is that of the component's loss term; `not_finite` names parameters with NaN or infinity.
    """

    component: str
    norm: float
    largest: float
    share_moved: float
    weight: float
    not_finite: tuple[str, ...] = ()


def component_gradients(model: BlockNeRF, config: TrainingConfig) -> list[ComponentGradient]:
    """The gradients of `model` after a backward pass, by component; nothing is changed."""
    weight_of = {"rgb": config.rgb_loss_weight, "interlevel": config.interlevel_loss_weight}
    weights = {name: weight_of[table.loss] for name, table in model.field.sparse_tables().items()}
    weights["visibility"] = config.visibility_loss_weight
    return [
        _measured(name, gradients, weights.get(name, config.rgb_loss_weight)) for name, gradients in _components(model)
    ]


def judge_gradients(gradients: list[ComponentGradient]) -> list[Finding]:
    """A sentence for every component whose gradient is not finite, too large or too small.

    Components whose loss term has weight 0 are skipped.
    """
    findings = []
    for gradient in gradients:
        size = gradient.norm / gradient.weight if gradient.weight else 1.0
        if gradient.not_finite:
            findings.append(
                Finding(
                    "error",
                    f"The gradient of {gradient.component} is not finite, in {listed(list(gradient.not_finite), 5)}.",
                )
            )
        elif size > TOO_LARGE:
            findings.append(
                Finding(
                    "warning",
                    f"The gradient of {gradient.component} is large: its norm is {size:.3g}, where up to "
                    f"{TOO_LARGE:g} is usual. Lower its learning rate, or look for what is wrong in the data.",
                )
            )
        elif size < TOO_SMALL:
            findings.append(
                Finding(
                    "warning",
                    f"The gradient of {gradient.component} is as good as zero (norm {size:.1e}): it does not learn.",
                )
            )
    return findings


Gradients = dict[str, Tensor | None]
"""By name of the parameter; None where nothing arrived."""


def _components(model: BlockNeRF) -> Iterator[tuple[str, Gradients]]:
    """Components that can learn. Offsets of a single pose group cannot, because common motion is removed."""
    names: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    yield "field networks", {names[parameter]: parameter.grad for parameter in model.field.networks()}
    for name, table in model.field.sparse_tables().items():
        yield name, {name: _table_gradient(table)}
    if model.appearance is not None and model.appearance.residuals is not None:
        gradient = model.appearance.residuals.grad
        yield "appearance", {"residuals": None if gradient is None else gradient[: len(model.image_ids)]}
    layer = model.field.code_layer()
    if model.exposure is not None and layer is not None:
        columns = model.exposure.width
        name = f"{names[layer.weight]}, the columns of exposure"
        yield "exposure", {name: None if layer.weight.grad is None else layer.weight.grad[:, -columns:]}
    if model.poses is not None and len(model.poses.groups) > 1:
        yield "pose", {name: parameter.grad for name, parameter in model.poses.named_parameters()}
    if model.visibility is not None:
        learned = model.visibility.parameters_to_learn()
        yield "visibility", {names[parameter]: parameter.grad for parameter in learned}


def _table_gradient(table: RowTable) -> Tensor | None:
    """Where the sparse optimiser has told the table to collect it, else where torch puts it."""
    if table.gradient is not None:
        return table.gradient
    assert isinstance(table, nn.Module)
    (parameter,) = table.parameters()
    return parameter.grad


def _measured(name: str, gradients: Gradients, weight: float) -> ComponentGradient:
    present = {key: gradient for key, gradient in gradients.items() if gradient is not None}
    entries = torch.cat([gradient.flatten() for gradient in present.values()]) if present else torch.zeros(1)
    return ComponentGradient(
        component=name,
        norm=float(entries.double().norm()),
        largest=float(entries.abs().max()),
        share_moved=float((entries != 0).double().mean()),
        weight=weight,
        not_finite=tuple(key for key, gradient in present.items() if not bool(gradient.isfinite().all())),
    )
