"""What a network trained on photographs sees of an image: the input of pose refinement from features."""

from collections.abc import Callable
from pathlib import Path

import safetensors.torch
import torch
from jaxtyping import Float
from safetensors import SafetensorError
from torch import Tensor, nn

from blocknerf.core.errors import UserError
from blocknerf.core.extras import Extra
from blocknerf.core.logging import log

torchvision_models = Extra("torchvision.models", "features", "pose_refinement.mode=features")
FeatureExtractor = Callable[[Float[Tensor, "3 height width"]], Float[Tensor, " features"]]
"""Colours in [0, 1] of one image to numbers."""
EDGE_PX = 224
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, on which published weights were trained


def resnet18(weights: Path | None, rng: torch.Generator) -> FeatureExtractor:
    """The 512 numbers before the classifier of ResNet-18 (He et al. 2016), frozen, from torchvision.

    `weights`: a safetensors file under torchvision's names; none: random weights from `rng`, with a warning. Raises
    UserError without torchvision, or when the file does not hold these weights.
    """
    network = torchvision_models.resnet18(weights=None)
    network.fc = nn.Identity()
    if weights is None:
        log.warning("No pose_refinement.feature_weights: image features come from a network with random weights.")
        _randomise(network, rng)
    else:
        _load(network, weights)
    network.eval().requires_grad_(False)
    return lambda image: network(_prepared(image))[0]


def _prepared(image: Float[Tensor, "3 height width"]) -> Float[Tensor, "1 3 edge edge"]:
    """Squeezed into a square: where a picture shows something matters more here than how round it is."""
    square = nn.functional.interpolate(image[None], (EDGE_PX, EDGE_PX), mode="bilinear", antialias=True)
    mean, deviation = (torch.tensor(values)[:, None, None] for values in (_MEAN, _DEVIATION))
    return (square - mean) / deviation


def _randomise(network: nn.Module, rng: torch.Generator) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            fan_in = module.weight[0].numel()
            nn.init.normal_(module.weight, 0, (2 / fan_in) ** 0.5, generator=rng)  # He et al. 2015


def _load(network: nn.Module, weights: Path) -> None:
    try:
        tensors = safetensors.torch.load_file(weights)
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"pose_refinement.feature_weights: {weights} cannot be read as safetensors ({error}). "
            "Convert the weights of torchvision's resnet18 with safetensors.torch.save_file."
        ) from error
    wanted = network.state_dict()
    fitting = {name: tensors[name] for name in wanted if name in tensors and tensors[name].shape == wanted[name].shape}
    missing = sorted(set(wanted) - set(fitting))
    if missing:
        raise UserError(
            f"pose_refinement.feature_weights: {weights} has no fitting {', '.join(missing[:3])}"
            f"{'' if len(missing) <= 3 else f' and {len(missing) - 3} more'}. It must hold torchvision's resnet18."
        )
    network.load_state_dict(fitting)
