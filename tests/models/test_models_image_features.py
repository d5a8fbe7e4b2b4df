"""The ResNet path, with a small network in the place of torchvision's."""

import logging
import sys
from types import ModuleType

import pytest
import safetensors.torch
import torch
from torch import nn

from blocknerf.core.errors import UserError
from blocknerf.core.seeds import generator
from blocknerf.models.image_features import resnet18


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, bias=False)
        self.fc = nn.Linear(4, 1000)

    def forward(self, images):
        return self.fc(self.conv1(images).mean((2, 3)))


@pytest.fixture
def torchvision(monkeypatch):
    module, models = ModuleType("torchvision"), ModuleType("torchvision.models")
    models.resnet18 = lambda weights: Small()  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "torchvision", module)
    monkeypatch.setitem(sys.modules, "torchvision.models", models)


IMAGE = torch.rand(3, 20, 30, generator=torch.Generator().manual_seed(0))


def test_random_weights_come_from_the_generator_and_are_said(torchvision, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("blocknerf"), "propagate", True)
    one, same, other = (resnet18(None, generator(seed, "features"))(IMAGE) for seed in (1, 1, 2))
    assert "random weights" in caplog.text
    assert one.shape == (4,)
    assert not torch.allclose(one, other, atol=1e-3)
    assert torch.equal(one, same)


def test_weights_from_a_file(torchvision, tmp_path):
    trained = Small()
    path = tmp_path / "resnet18.safetensors"
    safetensors.torch.save_file(trained.state_dict(), path)
    one, same = (resnet18(path, generator(seed, "features"))(IMAGE) for seed in (1, 2))
    assert torch.equal(one, same)


def test_a_file_of_something_else_is_named(torchvision, tmp_path):
    other = tmp_path / "other.safetensors"
    safetensors.torch.save_file({"conv1.weight": torch.zeros(1)}, other)
    with pytest.raises(UserError, match=r"other\.safetensors has no fitting conv1\.weight"):
        resnet18(other, generator(0, "features"))
    (tmp_path / "weights.pth").write_bytes(b"\x80\x02")
    with pytest.raises(UserError, match=r"weights\.pth cannot be read as safetensors.*save_file"):
        resnet18(tmp_path / "weights.pth", generator(0, "features"))


def test_without_torchvision_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    with pytest.raises(UserError, match=r"pip install 'blocknerf\[features\]'"):
        resnet18(None, generator(0, "features"))
