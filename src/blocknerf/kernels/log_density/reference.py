"""From what a network says to density: exp(raw + bias), which stops growing at a largest log density."""

import torch
from jaxtyping import Float
from torch import Tensor


def exp_density(raw: Float[Tensor, "*points"], bias: float, largest_log: float) -> Float[Tensor, "*points"]:
    return torch.exp((raw + bias).clamp(max=largest_log))
