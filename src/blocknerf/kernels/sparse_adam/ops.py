"""One step of Adam on rows with a gradient."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.kernels.registry import backend_for, kernels_for
from blocknerf.kernels.sparse_adam import reference


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
    """One step, in place; sets `gradient` to 0. `step` counts from 1 and corrects the moments' bias."""
    rate = learning_rate * math.sqrt(1 - betas[1] ** step) / (1 - betas[0] ** step)
    with torch.no_grad():
        runs_reference = backend_for("sparse_adam.step", table) == "torch"
        step_rows = reference.step if runs_reference else kernels_for("sparse_adam", table).step
        step_rows(table, gradient, first_moment, second_moment, rate, *betas, epsilon)
