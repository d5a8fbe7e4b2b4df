"""Adam (Kingma and Ba 2015) on whole tensors: networks and codes.

On a processor and on CUDA, it is the kernel that torch.optim.Adam calls with `fused=True`. That class itself imports
torch's compiler, which takes longer than everything else before a first step.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.kernels.registry import preferred_backend


@dataclass(frozen=True, slots=True)
class AdamMoments:
    """Running means of a parameter's gradient and of its square, and the number of gradients in them."""

    first: Float[Tensor, "..."]
    second: Float[Tensor, "..."]
    step: Float[Tensor, ""]

    @classmethod
    def of(cls, parameter: Tensor) -> "AdamMoments":
        """Moments of a parameter that has had no gradient yet."""
        zeros = (torch.zeros_like(parameter, memory_format=torch.preserve_format) for _ in range(2))
        return cls(*zeros, step=torch.zeros((), device=parameter.device))


def dense_adam_step(
    parameters: Sequence[Float[Tensor, "..."]],
    moments: Sequence[AdamMoments],
    learning_rate: float,
    weight_decay: float = 0.0,
    betas: tuple[float, float] = (0.9, 0.99),
    epsilon: float = 1e-15,
) -> None:
    """One step along each `parameter.grad`, in place; `weight_decay` times the parameter is added to the gradient.

    Parameters of one device and dtype are updated together, because the cost of small ones is mostly the call.
    """
    alike: dict[tuple[torch.device, torch.dtype], list[tuple[Tensor, AdamMoments]]] = {}
    for parameter, of_it in zip(parameters, moments, strict=True):
        alike.setdefault((parameter.device, parameter.dtype), []).append((parameter, of_it))
    with torch.no_grad():
        for pairs in alike.values():
            group, group_moments = [parameter for parameter, _ in pairs], [of_it for _, of_it in pairs]
            torch._foreach_add_([of_it.step for of_it in group_moments], 1)  # pyright: ignore[reportPrivateImportUsage]
            if preferred_backend(group[0]) == "torch":
                for parameter, of_it in pairs:
                    _step_torch(parameter, of_it, learning_rate, weight_decay, betas, epsilon)
                continue
            torch.ops.aten._fused_adam_(
                group,
                [parameter.grad for parameter in group],
                [of_it.first for of_it in group_moments],
                [of_it.second for of_it in group_moments],
                [],
                [of_it.step for of_it in group_moments],
                lr=learning_rate,
                beta1=betas[0],
                beta2=betas[1],
                weight_decay=weight_decay,
                eps=epsilon,
                amsgrad=False,
                maximize=False,
            )


def _step_torch(parameter, moments, learning_rate, weight_decay, betas, epsilon) -> None:
    gradient = parameter.grad + weight_decay * parameter
    moments.first.lerp_(gradient, 1 - betas[0])
    moments.second.lerp_(gradient.square(), 1 - betas[1])
    step = moments.step.double()
    spread = (moments.second / (1 - betas[1] ** step)).sqrt() + epsilon
    parameter -= learning_rate / (1 - betas[0] ** step) * moments.first / spread
