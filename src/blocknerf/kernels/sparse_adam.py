"""Adam (Kingma and Ba 2015) on the rows that got a gradient; all others keep value and moments.

Dense Adam over a hash table moves hundreds of megabytes a step, more than a small batch's forward and backward.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.kernels.registry import backend_for, kernels_for
from blocknerf.kernels.row_gradient import touched_rows


def sparse_adam_step(
    table: Float[Tensor, "levels rows features"],
    gradient: Float[Tensor, "levels rows features"],
    first_moment: Float[Tensor, "levels rows features"],
    second_moment: Float[Tensor, "levels rows features"],
    step: int,
    learning_rate: float,
    betas: tuple[float, float] = (0.9, 0.99),
    epsilon: float = 1e-15,
) -> None:
    """One step, in place, and empties `gradient`. `step` counts from 1 and corrects the moments' bias."""
    rate = learning_rate * math.sqrt(1 - betas[1] ** step) / (1 - betas[0] ** step)
    with torch.no_grad():
        if backend_for(table) == "torch":
            _step_torch(table, gradient, first_moment, second_moment, rate, betas, epsilon)
        else:
            kernels_for(__name__, table).step(
                *(table, gradient, first_moment, second_moment, rate, betas[0], betas[1], epsilon)
            )


def _step_torch(table, gradient, first_moment, second_moment, rate, betas, epsilon) -> None:
    rows = touched_rows(gradient)
    grad = gradient[rows]
    first = torch.lerp(first_moment[rows], grad, 1 - betas[0])
    second = torch.lerp(second_moment[rows], grad.square(), 1 - betas[1])
    first_moment[rows] = first
    second_moment[rows] = second
    table[rows] -= rate * first / (second.sqrt() + epsilon)
    gradient.zero_()
