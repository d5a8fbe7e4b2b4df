"""Features of an image from a network trained on photographs: the input of pose refinement from features."""

from collections.abc import Callable
from pathlib import Path

import safetensors.torch
import torch
from jaxtyping import Float
from safetensors import SafetensorError
from torch import Tensor, nn

from blocknerf.core.errors import UserError, listed
from blocknerf.core.logging import log

FeatureExtractor = Callable[[Float[Tensor, "3 height width"]], Float[Tensor, " features"]]
"""Colours in [0, 1] of one image to numbers."""
EDGE_PX = 224
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, on which published weights were trained


def resnet18(weights: Path | None, rng: torch.Generator) -> FeatureExtractor:
    """The 512 numbers before the classifier of ResNet-18 (He et al. 2016), frozen.

    `weights`: a safetensors file with torchvision's names. Without it, weights are random from `rng`, with a message;
    no run needs a download. Raises UserError if the file does not have these weights.
    """
    network = ResNet18()
    if weights is None:
        log.warning(
            "No pose_refinement.feature_weights: image features come from a ResNet-18 with random weights. It "
            "distinguishes images but knows nothing of their content."
        )
        _randomise(network, rng)
    else:
        _load(network, weights)
    network.eval().requires_grad_(False)
    return lambda image: network(_prepared(image))[0]


class ResNet18(nn.Module):
    """As torchvision's, whose names its parameters bear, without the classifier `fc`."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = nn.Sequential(ResidualBlock(64, 64, 1), ResidualBlock(64, 64, 1))
        self.layer2 = nn.Sequential(ResidualBlock(64, 128, 2), ResidualBlock(128, 128, 1))
        self.layer3 = nn.Sequential(ResidualBlock(128, 256, 2), ResidualBlock(256, 256, 1))
        self.layer4 = nn.Sequential(ResidualBlock(256, 512, 2), ResidualBlock(512, 512, 1))

    def forward(self, images: Float[Tensor, "n 3 height width"]) -> Float[Tensor, "n 512"]:
        maps = torch.relu(self.bn1(self.conv1(images)))
        maps = nn.functional.max_pool2d(maps, 3, 2, 1)
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            maps = layer(maps)
        return maps.mean((2, 3))


class ResidualBlock(nn.Module):
    """Two convolutions beside a shortcut, which is one as well where the maps change their size."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        shortcut = [nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)]
        self.downsample = nn.Sequential(*(shortcut if (inputs, stride) != (outputs, 1) else []))

    def forward(self, maps: Float[Tensor, "n inputs h w"]) -> Float[Tensor, "n outputs h2 w2"]:
        inner = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(maps)))))
        return torch.relu(inner + self.downsample(maps))


def _prepared(image: Float[Tensor, "3 height width"]) -> Float[Tensor, "1 3 edge edge"]:
    """Squeezed into a square: the place of things in a picture matters more here than their proportions."""
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
    wanted = {name: tensor for name, tensor in network.state_dict().items() if not name.endswith("num_batches_tracked")}
    fitting = {name: tensors[name] for name in wanted if name in tensors and tensors[name].shape == wanted[name].shape}
    missing = sorted(set(wanted) - set(fitting))
    if missing:
        raise UserError(
            f"pose_refinement.feature_weights: {weights} has no fitting {listed(missing, 3)}. "
            "It must hold torchvision's resnet18."
        )
    network.load_state_dict(fitting, strict=False)  # how many batches were seen is of no use here
