"""Perceptual metrics: their laws with made-up weights, and a sentence where they cannot be computed."""

import sys

import pytest
import torch

from blocknerf.core.seeds import generator
from blocknerf.rendering import perceptual
from blocknerf.rendering.perceptual import perceptual_metrics
from blocknerf.rendering.shift_tolerant import ShiftTolerantLpips

CHANNELS = (3, 64, 192, 384, 256, 256)
KERNELS = (11, 5, 3, 3, 3)
NAMES = ("slice1.0", "slice2.5", "slice3.9", "slice4.11", "slice5.13")


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    """Of the shapes that the package's file has."""
    rng = generator(0, "weights")
    tensors = {
        "scaling_layer.shift": torch.tensor([-0.030, -0.088, -0.188]).reshape(1, 3, 1, 1),
        "scaling_layer.scale": torch.tensor([0.458, 0.448, 0.450]).reshape(1, 3, 1, 1),
    }
    for layer, name in enumerate(NAMES):
        fan_in, fan_out, size = CHANNELS[layer], CHANNELS[layer + 1], KERNELS[layer]
        scale = (2 / (fan_in * size * size)) ** 0.5
        tensors[f"net.{name}.weight"] = scale * torch.randn((fan_out, fan_in, size, size), generator=rng)
        tensors[f"net.{name}.bias"] = 0.1 * torch.randn(fan_out, generator=rng)
        tensors[f"lin{layer}.model.1.weight"] = torch.rand((1, fan_out, 1, 1), generator=rng) / fan_out
    return tensors


def picture(name: str, height: int = 48, width: int = 56) -> torch.Tensor:
    coarse = torch.rand((1, 3, 8, 8), generator=generator(0, name))
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")[0].movedim(0, -1)


def test_a_distance_is_zero_for_equals_symmetric_and_grows_with_noise(weights):
    metric, truth = ShiftTolerantLpips(weights), picture("truth")
    noise = torch.randn(truth.shape, generator=generator(0, "noise"))
    assert metric(truth, truth) == 0
    assert metric(truth, truth + 0.1 * noise) == pytest.approx(metric(truth + 0.1 * noise, truth), rel=1e-5)
    growing = [metric((truth + level * noise).clamp(0, 1), truth) for level in (0.02, 0.05, 0.1, 0.2)]
    assert growing == sorted(growing)
    assert growing[0] > 0


def test_the_first_layer_is_a_convolution_blurred_and_halved(weights):
    """Brute force at one place: 11 x 11 weights, then (1 2 1) twice, every second pixel, reflected at the border."""
    truth = picture("truth").double()
    metric = ShiftTolerantLpips({name: tensor.double() for name, tensor in weights.items()})
    metric._blur = metric._blur.double()
    first = metric._features(truth.movedim(-1, 0)[None])[0]
    scaled = (2 * truth - 1 - metric.weights["scaling_layer.shift"].flatten()) / metric.weights[
        "scaling_layer.scale"
    ].flatten()
    padded = torch.zeros(48 + 4, 56 + 4, 3, dtype=torch.float64)
    padded[2:-2, 2:-2] = scaled
    row, column, total = 6, 9, 0.0
    channel = int(first[0, :, row, column].argmax())
    kernel, bias = metric.weights["net.slice1.0.weight"][channel], metric.weights["net.slice1.0.bias"][channel]
    for i, wi in enumerate((1, 2, 1)):
        for j, wj in enumerate((1, 2, 1)):
            y, x = 2 * row - 2 + i, 2 * column - 2 + j
            value = (padded[y : y + 11, x : x + 11] * kernel.permute(1, 2, 0)).sum() + bias
            total += wi * wj / 16 * float(value)
    assert float(first[0, channel, row, column]) == pytest.approx(total, abs=1e-9)


def test_weights_in_the_package_are_found_without_importing_it(weights, tmp_path, monkeypatch):
    folder = tmp_path / "stlpips_pytorch" / "weights" / "vST0.0"
    folder.mkdir(parents=True)
    (tmp_path / "stlpips_pytorch" / "__init__.py").write_text("raise RuntimeError('imported')")
    torch.save(weights, folder / "alex_shift_tolerant.pth")
    monkeypatch.syspath_prepend(tmp_path)
    ready, missing = perceptual_metrics(40)
    assert "st_lpips_alex" not in missing
    truth, render = picture("truth"), picture("render")
    counts = torch.ones(48, 56, dtype=torch.bool)
    assert ready["st_lpips_alex"](render, truth, counts) == ShiftTolerantLpips(weights)(render, truth)
    assert ready["st_lpips_alex"](render + 5, render.clamp(0, 1) * 0 + 1, counts) == 0
    assert ready["st_lpips_alex"](render, truth, ~counts) == 0
    assert "stlpips_pytorch" not in sys.modules


def test_what_is_missing_is_said(monkeypatch, tmp_path):
    monkeypatch.setattr(perceptual, "find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "torchvision", None)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    ready, missing = perceptual_metrics(40)
    assert ready == {}
    assert "pip install 'blocknerf[lpips]'" in missing["st_lpips_alex"]
    assert "alexnet-owt-7be5be79.pth is not in torch's cache" in missing["lpips_alex"]
    assert "vgg16-397923af.pth is not in torch's cache" in missing["lpips_vgg"]
    assert perceptual_metrics(40, ("lpips_alex",)) == ({}, {"lpips_alex": missing["lpips_alex"]})
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "alexnet-owt-7be5be79.pth").touch()
    _, missing = perceptual_metrics(40)
    assert (
        "LPIPS needs torchvision, which is not installed; run: pip install 'blocknerf[lpips]'" in missing["lpips_alex"]
    )


def test_small_pictures_are_not_judged():
    ready, missing = perceptual_metrics(31)
    assert ready == {}
    assert set(missing) == {"lpips_alex", "lpips_vgg", "st_lpips_alex"}
    assert all("31 pixels are too small; it needs 32" in why for why in missing.values())
