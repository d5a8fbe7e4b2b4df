"""Shift-tolerant LPIPS (Ghildyal and Liu 2022) with AlexNet, from the weights in its package.

The package imports torchvision only to build networks that this metric does not use; read from its weights, the
metric needs torch alone.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import conv2d, max_pool2d, pad

LAYERS = ("slice1.0", "slice2.5", "slice3.9", "slice4.11", "slice5.13")
PADDING = (2, 2, 1, 1, 1)
POOLED = (False, True, True, False, False)
"""Whether a 3 x 3 maximum and a blur at every second pixel precede the layer."""
SMALLEST_SIDE_PX = 32


class ShiftTolerantLpips:
    """Distance of two pictures as the weighted difference of their unit features in five layers; 0 for equal ones."""

    def __init__(self, weights: Mapping[str, Tensor]):
        """`weights`: the package's alex_shift_tolerant.pth."""
        self.weights = weights
        corner = torch.tensor([1.0, 2.0, 1.0])
        self._blur = corner[:, None] * corner / 16

    @torch.no_grad()
    def __call__(self, render: Float[Tensor, "h w 3"], truth: Float[Tensor, "h w 3"]) -> float:
        """Colours in [0, 1]; each side at least SMALLEST_SIDE_PX."""
        total = 0.0
        both = torch.stack([render, truth]).movedim(-1, 1)
        for layer, features in enumerate(self._features(both)):
            unit = features / (features.square().sum(1, keepdim=True).sqrt() + 1e-10)
            share = self.weights[f"lin{layer}.model.1.weight"].flatten()
            total += float(torch.einsum("chw,c->hw", (unit[0] - unit[1]).square(), share).mean())
        return total

    def _features(self, rgb: Float[Tensor, "pictures 3 h w"]) -> list[Tensor]:
        values = (2 * rgb - 1 - self.weights["scaling_layer.shift"]) / self.weights["scaling_layer.scale"]
        features = []
        for name, padding, pooled in zip(LAYERS, PADDING, POOLED, strict=True):
            if pooled:
                values = self._halve(max_pool2d(values, 3, stride=1))
            values = conv2d(
                values, self.weights[f"net.{name}.weight"], self.weights[f"net.{name}.bias"], padding=padding
            )
            values = (self._halve(values) if not features else values).relu()
            features.append(values)
        return features

    def _halve(self, values: Float[Tensor, "pictures channels h w"]) -> Float[Tensor, "pictures channels hh ww"]:
        """Every second pixel of the picture blurred with (1 2 1), reflected at the border (Zhang 2019)."""
        channels = values.shape[1]
        kernel = self._blur.expand(channels, 1, 3, 3)
        return conv2d(pad(values, (2, 2, 2, 2), "reflect"), kernel, stride=2, groups=channels)
