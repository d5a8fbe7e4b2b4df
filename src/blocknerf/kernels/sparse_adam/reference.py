"""Adam (Kingma and Ba 2015) on rows with a gradient; all others keep their value and moments.

Dense Adam over a hash table moves hundreds of megabytes a step, more than a small batch's forward and backward.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.kernels.row_gradient import nonzero_rows


def step(
    table: Float[Tensor, "levels rows features"],
    gradient: Float[Tensor, "levels rows features"],
    first_moment: Float[Tensor, "levels rows features"],
    second_moment: Float[Tensor, "levels rows features"],
    rate: float,
    beta1: float,
    beta2: float,
    epsilon: float,
) -> None:
    rows = nonzero_rows(gradient)
    grad = gradient[rows]
    first = torch.lerp(first_moment[rows], grad, 1 - beta1)
    second = torch.lerp(second_moment[rows], grad.square(), 1 - beta2)
    first_moment[rows] = first
    second_moment[rows] = second
    table[rows] -= rate * first / (second.sqrt() + epsilon)
    gradient.zero_()
