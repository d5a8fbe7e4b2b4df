"""Networks with one or two hidden layers of rectified units, for many points: y = W2 max(W1 x + b1, 0) + b2."""

import torch
from jaxtyping import Float
from torch import Tensor


def fused_mlp(
    values: Float[Tensor, "points inputs"],
    weight1: Float[Tensor, "width inputs"],
    bias1: Float[Tensor, " width"],
    weight2: Float[Tensor, "outputs width"],
    bias2: Float[Tensor, " outputs"],
) -> Float[Tensor, "points outputs"]:
    hidden = torch.nn.functional.linear(values, weight1, bias1).relu()
    return torch.nn.functional.linear(hidden, weight2, bias2)


def fused_mlp_three(
    values: Float[Tensor, "points inputs"], *parameters: Float[Tensor, "..."]
) -> Float[Tensor, "points outputs"]:
    return torch.nn.functional.linear(fused_mlp(values, *parameters[:4]).relu(), *parameters[4:])
