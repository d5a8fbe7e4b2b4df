"""ResNet-18 as it was published, in shape and in what weights of a file make of it."""

import logging

import pytest
import safetensors.torch
import torch
from torch import nn

from blocknerf.core.errors import UserError
from blocknerf.core.seeds import generator
from blocknerf.models.image_features import ResidualBlock, ResNet18, resnet18

IMAGE = torch.rand(3, 20, 30, generator=torch.Generator().manual_seed(0))


def trained(seed: int = 0) -> ResNet18:
    """One with statistics of batches, as training leaves them."""
    rng, network = generator(seed, "trained"), ResNet18()
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            low, high = (0.5, 1.5) if "running_var" in name else (-0.1, 0.1)
            tensor.uniform_(low, high, generator=rng)
    return network.eval()


def test_parameters_are_as_many_and_as_named_as_published():
    """11,689,512 in all (He et al. 2016, as torchvision counts), 513,000 of them of the classifier."""
    network = ResNet18()
    assert sum(parameter.numel() for parameter in network.parameters()) == 11_689_512 - 513_000
    names = network.state_dict()
    assert names["conv1.weight"].shape == (64, 3, 7, 7)
    assert names["layer2.0.downsample.0.weight"].shape == (128, 64, 1, 1)
    assert names["layer4.1.bn2.running_var"].shape == (512,)
    assert not any(name.startswith(("layer1.0.downsample", "layer3.1.downsample", "fc")) for name in names)


def test_maps_are_halved_five_times():
    shapes = []
    network = ResNet18().eval()
    for layer in (network.layer1, network.layer2, network.layer3, network.layer4):
        layer.register_forward_hook(lambda module, maps, out: shapes.append(tuple(out.shape[1:])))
    assert network(torch.zeros(2, 3, 224, 224)).shape == (2, 512)
    assert shapes == [(64, 56, 56), (128, 28, 28), (256, 14, 14), (512, 7, 7)]


def test_a_block_without_its_convolutions_is_its_shortcut():
    block = ResidualBlock(64, 64, 1).eval()
    nn.init.zeros_(block.bn2.weight)
    maps = torch.rand(1, 64, 8, 8, generator=generator(0, "maps"))
    assert torch.equal(block(maps), maps)


def test_random_weights_come_from_the_generator_and_are_said(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("blocknerf"), "propagate", True)
    one, same, other = (resnet18(None, generator(seed, "features"))(IMAGE) for seed in (1, 1, 2))
    assert "random weights" in caplog.text
    assert one.shape == (512,)
    assert bool(one.isfinite().all())
    assert not torch.allclose(one, other, atol=1e-3)
    assert torch.equal(one, same)


def test_weights_from_a_file(tmp_path):
    network, path = trained(), tmp_path / "resnet18.safetensors"
    classifier = {"fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}
    safetensors.torch.save_file(network.state_dict() | classifier, path)
    one, same = (resnet18(path, generator(seed, "features"))(IMAGE) for seed in (1, 2))
    assert torch.equal(one, same)
    old = {name: tensor for name, tensor in network.state_dict().items() if "num_batches" not in name}
    safetensors.torch.save_file(old, path)  # as saved before batches were counted
    assert torch.equal(resnet18(path, generator(0, "features"))(IMAGE), one)
    other = tmp_path / "other.safetensors"
    safetensors.torch.save_file(trained(seed=1).state_dict(), other)
    assert not torch.allclose(resnet18(other, generator(1, "features"))(IMAGE), one, atol=1e-4)


def test_a_file_of_something_else_is_named(tmp_path):
    other = tmp_path / "other.safetensors"
    safetensors.torch.save_file({"conv1.weight": torch.zeros(1)}, other)
    with pytest.raises(UserError, match=r"other\.safetensors has no fitting bn1\.bias, .* and"):
        resnet18(other, generator(0, "features"))
    (tmp_path / "weights.pth").write_bytes(b"\x80\x02")
    with pytest.raises(UserError, match=r"weights\.pth cannot be read as safetensors.*save"):
        resnet18(tmp_path / "weights.pth", generator(0, "features"))
