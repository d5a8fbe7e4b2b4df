"""Errors and distances as colours, for the eye."""

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from blocknerf.core.types import RenderOutput

LARGEST_ERROR = 0.25
"""Mean absolute error over the channels that is drawn in the brightest colour."""


def error_colours(
    render: Float[Tensor, "h w 3"], truth: Float[Tensor, "h w 3"], valid: Bool[Tensor, "h w"]
) -> Float[Tensor, "h w 3"]:
    """Mean absolute error per pixel, from black (none) to bright at LARGEST_ERROR; gray where nothing is measured."""
    error = (render.clamp(0, 1) - truth).abs().mean(-1) / LARGEST_ERROR
    return torch.where(valid[..., None], _colours("inferno", error), torch.tensor(0.5))


def distance_colours(picture: RenderOutput) -> Float[Tensor, "h w 3"]:
    """Distance on a logarithmic scale between the picture's 2nd and 98th percentile: near is bright, far or transparent
    is dark."""
    log_distance = picture.distance_m.clamp(min=1e-6).log()
    low, high = np.percentile(log_distance.numpy(), (2, 98))
    nearness = (high - log_distance) / max(float(high - low), 1e-6)
    return _colours("viridis", nearness) * picture.opacity[..., None]


def share_colours(shares: Float[Tensor, "h w"]) -> Float[Tensor, "h w 3"]:
    """From dark (0) to bright (1)."""
    return _colours("viridis", shares)


def _colours(name: str, values: Float[Tensor, "h w"]) -> Float[Tensor, "h w 3"]:
    from matplotlib import colormaps  # late: training need not wait for it

    return torch.from_numpy(colormaps[name](values.clamp(0, 1).numpy())[..., :3]).float()
