"""From a network's output to density: exp(raw + bias), bounded by a largest log density."""

import torch
from jaxtyping import Float
from torch import Tensor


def exp_density(raw: Float[Tensor, "*points"], bias: float, largest_log: float) -> Float[Tensor, "*points"]:
    return torch.exp((raw + bias).clamp(max=largest_log))
