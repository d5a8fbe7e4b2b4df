"""Building blocks of both backbones: layers with seeded weights, and what turns raw outputs into density and colour."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from blocknerf.core.config.section import DensityActivation, RgbActivation
from blocknerf.kernels.log_density.ops import exp_density

DENSITY_BIAS: dict[DensityActivation, float] = {"exp": -1.0, "softplus": -1.0, "relu": 0.5}
"""A new field is thin fog: every sample of a ray gets a gradient."""
MAX_LOG_DENSITY = 12.0
RGB_PADDING = 0.001


def linear(fan_in: int, fan_out: int, rng: torch.Generator | None, gain: float = 1.0) -> nn.Linear:
    """Weights uniform with the deviation `gain` sqrt(2 / fan_in) (He et al. 2015), biases zero.

    Without a generator all is zero.
    """
    layer = nn.Linear(fan_in, fan_out)
    with torch.no_grad():
        bound = gain * (6 / fan_in) ** 0.5
        layer.weight.uniform_(-bound, bound, generator=rng) if rng is not None else layer.weight.zero_()
        layer.bias.zero_()
    return layer


def mlp_layers(widths: list[int], rng: torch.Generator | None) -> nn.Sequential:
    """Linear layers with rectified units between them."""
    layers: list[nn.Module] = []
    for fan_in, fan_out in zip(widths[:-1], widths[1:], strict=True):
        layers += [linear(fan_in, fan_out, rng), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def density_of(raw: Float[Tensor, "*points"], activation: DensityActivation) -> Float[Tensor, "*points"]:
    """Density per block radius, >= 0."""
    if activation == "exp":
        return exp_density(raw, DENSITY_BIAS[activation], MAX_LOG_DENSITY)
    shifted = raw + DENSITY_BIAS[activation]
    return nn.functional.softplus(shifted) if activation == "softplus" else shifted.relu()


def rgb_of(raw: Float[Tensor, "*points 3"], activation: RgbActivation) -> Float[Tensor, "*points 3"]:
    """Colour in [0, 1]; `padded_sigmoid` goes beyond by RGB_PADDING, so that black and white can be reached."""
    rgb = torch.sigmoid(raw)
    return rgb if activation == "sigmoid" else (1 + 2 * RGB_PADDING) * rgb - RGB_PADDING
