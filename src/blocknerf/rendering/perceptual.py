"""Perceptual distances, if their weights are on this machine. Nothing is ever downloaded.

Both compare whole pictures: pixels that do not count are replaced by the photograph's in both.
"""

from collections.abc import Callable, Container, Mapping
from importlib.util import find_spec
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from blocknerf.core.errors import UserError
from blocknerf.core.extras import Extra
from blocknerf.rendering.shift_tolerant import SMALLEST_SIDE_PX, ShiftTolerantLpips

torchvision = Extra("torchvision", "lpips", "LPIPS")
Metric = Callable[[Float[Tensor, "h w 3"], Float[Tensor, "h w 3"], Bool[Tensor, "h w"]], float]
LPIPS_BACKBONES = {"alex": "alexnet-owt-7be5be79.pth", "vgg": "vgg16-397923af.pth"}
"""ImageNet weights by torchvision's names in torch's cache; the layers above them are part of torchmetrics."""


class MetricUnavailable(Exception):
    """Why a metric cannot be computed on this machine, for the report."""


NAMES = ("lpips_alex", "lpips_vgg", "st_lpips_alex")


def perceptual_metrics(
    smallest_side_px: int, names: Container[str] = NAMES
) -> tuple[dict[str, Metric], dict[str, str]]:
    """The metrics that can be computed on pictures with this smallest side, and why each of the others cannot."""
    ready, missing = {}, {}
    makers = {"lpips_alex": lambda: _lpips("alex"), "lpips_vgg": lambda: _lpips("vgg"), "st_lpips_alex": _st_lpips}
    for name, make in makers.items():
        if name not in names:
            continue
        try:
            if smallest_side_px < SMALLEST_SIDE_PX:
                raise MetricUnavailable(
                    f"pictures with a side of {smallest_side_px} pixels are too small; it needs {SMALLEST_SIDE_PX}"
                )
            ready[name] = _over_counted(make())
        except MetricUnavailable as why:
            missing[name] = str(why)
    return ready, missing


def _lpips(backbone: str) -> Callable[[Tensor, Tensor], float]:
    """LPIPS 0.1 (Zhang et al. 2018) through torchmetrics, colours moved from [0, 1] to [-1, 1]."""
    weights = Path(torch.hub.get_dir()) / "checkpoints" / LPIPS_BACKBONES[backbone]
    if not weights.is_file():
        raise MetricUnavailable(f"{weights.name} is not in torch's cache of weights ({weights.parent})")
    try:
        torchvision.require()
    except (UserError, RuntimeError) as error:  # RuntimeError: built for another torch
        raise MetricUnavailable(str(error)) from error
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    metric = LearnedPerceptualImagePatchSimilarity(net_type=backbone, normalize=True)  # pyright: ignore[reportArgumentType]

    @torch.no_grad()
    def distance(render: Tensor, truth: Tensor) -> float:
        value = float(metric(render.movedim(-1, 0)[None], truth.movedim(-1, 0)[None]))
        metric.reset()
        return value

    return distance


def _st_lpips() -> Callable[[Tensor, Tensor], float]:
    package = find_spec("stlpips_pytorch")  # located, not imported: importing it needs more packages than its weights
    if package is None or not package.submodule_search_locations:
        raise MetricUnavailable("the package stlpips-pytorch is not installed: pip install 'blocknerf[lpips]'")
    path = Path(package.submodule_search_locations[0]) / "weights" / "vST0.0" / "alex_shift_tolerant.pth"
    if not path.is_file():
        raise MetricUnavailable(f"the package stlpips-pytorch has no weights at {path}")
    return ShiftTolerantLpips(_tensors(path))


def _tensors(path: Path) -> Mapping[str, Tensor]:
    """The tensors of a .pth file; anything but tensors in it is refused, no code is run."""
    return torch.load(path, map_location="cpu", weights_only=True)


def _over_counted(distance: Callable[[Tensor, Tensor], float]) -> Metric:
    def metric(render: Float[Tensor, "h w 3"], truth: Float[Tensor, "h w 3"], counts: Bool[Tensor, "h w"]) -> float:
        return distance(torch.where(counts[..., None], render.clamp(0, 1), truth), truth)

    return metric
