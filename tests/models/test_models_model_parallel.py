"""Parts of a field on several devices: the same answers, and every tensor where it belongs."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from blocknerf.core.config.config import Config
from blocknerf.core.config.load import config_to_json, load_config
from blocknerf.core.errors import UserError
from blocknerf.core.seeds import generator
from blocknerf.core.types import RayBatch
from blocknerf.kernels.registry import use_backend
from blocknerf.models.backbones.hash_grid.grid import HashGrid
from blocknerf.models.block_nerf import BlockNeRF
from blocknerf.models.model_parallel import ModelParallelBlockNeRF
from tests.support.small_field import SMALL

both = pytest.mark.parametrize("backbone", SMALL)
SPREAD = {
    "hash": '{nerf_mlp: "cpu:1", decoder: "cpu:2"}',
    "mlp": '{encoder: "cpu:3", nerf_mlp: "cpu:1", decoder: "cpu:2"}',
}


def _config(backbone: str, device_map: str) -> Config:
    return load_config(None, [*SMALL[backbone], f"distributed.device_map={device_map}"])


def _model(config: Config, kind: type[BlockNeRF] = ModelParallelBlockNeRF, rng: torch.Generator | None = None):
    return kind(config, (0.0, 0.0, 0.0), 2.0, ("a", "b"), ("0", "1"), rng)


def _field(model: BlockNeRF) -> nn.Module:
    assert isinstance(model.field, nn.Module)
    return model.field


def _code_dim(model: BlockNeRF) -> int:
    assert model.appearance is not None
    return model.appearance.dim


def _rays(count: int = 24) -> RayBatch:
    rng = generator(0, "rays")
    directions = torch.nn.functional.normalize(torch.randn(count, 3, generator=rng), dim=-1)
    slots = torch.arange(count) % 2
    return RayBatch(torch.randn(count, 3, generator=rng), directions, slots, torch.full((count,), 1e-3))


def _render(model: BlockNeRF, rays: RayBatch):
    rgb, composited = model(rays)
    return rgb, composited.opacity, composited.weights


@pytest.fixture
def logical_devices(monkeypatch):
    """Tensors without values, on devices cpu:1, cpu:2 and so on; those of two devices never meet in one operation."""
    monkeypatch.setattr(nn.Module, "_apply", _apply)
    monkeypatch.setattr(HashGrid, "forward", lambda grid, points: points.new_zeros(len(points), grid.width))
    monkeypatch.setattr(BlockNeRF, "codes_of", lambda model, slots: torch.zeros(len(slots), _code_dim(model)))
    with FakeTensorMode(), use_backend("torch"):
        yield


def _apply(module: nn.Module, move: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
    """That of torch cannot exchange parameters without values."""
    for child in module.children():
        _apply(child, move)
    for name, parameter in module._parameters.items():
        module._parameters[name] = None if parameter is None else nn.Parameter(move(parameter))
    return module


@both
def test_parts_stand_where_the_map_says_and_answers_come_back_to_the_rays(backbone, logical_devices):
    model, rays = _model(_config(backbone, SPREAD[backbone])), _rays()
    rgb, opacity, weights = _render(model, rays)
    assert {str(answer.device) for answer in (rgb, opacity, weights)} == {"cpu"}
    (rgb.sum() + weights.sum()).backward()
    learned = [(parameter, parameter.grad) for parameter in _field(model).parameters() if parameter.grad is not None]
    assert len(learned) > 4
    assert all(gradient.device == parameter.device for parameter, gradient in learned)
    points = model.query_points(rays.origins, rays.directions, torch.zeros(_code_dim(model)))
    assert str(points.rgb.device) == str(points.density.device) == "cpu"
    where = {name: str(parameter.device) for name, parameter in _field(model).named_parameters()}
    assert {place for name, place in where.items() if name.startswith("head")} == {"cpu:2"}
    assert {place for name, place in where.items() if name.startswith(("base", "trunk", "density", "features"))} == {
        "cpu:1"
    }
    assert {place for name, place in where.items() if name.startswith(("grid", "proposal"))} <= {"cpu"}


def test_half_precision_is_that_of_where_networks_stand():
    model = _model(_config("hash", "{}"))
    assert model.device_type == "cpu"
    with FakeTensorMode(allow_non_fake_inputs=True):
        on_other_device = nn.Parameter(torch.zeros(1, device="cuda:1"))
    model.field.networks = lambda: [*_field(model).parameters(), on_other_device]
    assert model.device_type == "cuda"


def test_the_machine_of_these_tests_does_notice_a_tensor_in_the_wrong_place(logical_devices):
    model = _model(_config("mlp", "{}"))
    _field(model).get_submodule("trunk.2").to("cpu:1")
    with pytest.raises(RuntimeError, match="same device"):
        _render(model, _rays())


@pytest.mark.parametrize("part", ["encoder", "nerf_mlp", "decoder"])
def test_each_part_alone_may_be_elsewhere(part, logical_devices):
    moves = []
    model = _model(_config("mlp", f'{{{part}: "cpu:1"}}'))
    _field(model).get_submodule("head").register_forward_pre_hook(lambda _, inputs: moves.append(str(inputs[0].device)))
    _render(model, _rays())
    assert set(moves) == {"cpu:1" if part == "decoder" else "cpu"}


@both
def test_colours_and_gradients_are_those_of_one_device(backbone):
    parts = "{nerf_mlp: cpu, decoder: cpu}"
    spread = _model(_config(backbone, parts), rng=generator(1, "model"))
    single = _model(_config(backbone, parts), BlockNeRF, generator(1, "model"))
    assert spread.state_dict().keys() == single.state_dict().keys()
    for value, expected in zip(_render(spread, _rays()), _render(single, _rays()), strict=True):
        assert torch.equal(value, expected)
    for model in (spread, single):
        rgb, _, weights = _render(model, _rays())
        (rgb.sum() + weights.square().sum()).backward()
    pairs = list(zip(spread.named_parameters(), single.parameters(), strict=True))
    for (name, value), expected in pairs:
        assert (value.grad is None) == (expected.grad is None), name
        if value.grad is not None and expected.grad is not None:
            assert torch.equal(value.grad, expected.grad), name
    assert sum(value.grad is not None for (_, value), _ in pairs) > 4


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@both
def test_on_a_real_device_they_are_so_too(backbone):
    spread = _model(_config(backbone, "{nerf_mlp: 0, decoder: cpu}"), rng=generator(1, "model"))
    single = _model(_config(backbone, "{}"), BlockNeRF, generator(1, "model"))
    for model in (spread, single):
        rgb, _, _ = _render(model, _rays())
        rgb.square().sum().backward()
    for (name, value), expected in zip(spread.named_parameters(), single.parameters(), strict=True):
        if expected.grad is not None:
            assert value.grad is not None, name
            assert torch.allclose(value.grad.cpu(), expected.grad, rtol=1e-3, atol=1e-5), name


@both
def test_a_block_file_does_not_care_where_parts_stood(backbone):
    spread = _model(_config(backbone, "{decoder: cpu}"), rng=generator(1, "model"))
    again = BlockNeRF.from_state(spread.description(), spread.state_dict())
    assert type(again) is BlockNeRF
    assert torch.equal(_render(again, _rays())[0], _render(spread, _rays())[0])


@pytest.mark.parametrize("device", ["tpu", "cuda:77", "meta"])
def test_a_device_that_is_not_there_is_named(device):
    with pytest.raises(UserError, match=f"the decoder on '{device}', and this machine has cpu"):
        _model(_config("hash", f'{{decoder: "{device}"}}'))


def test_an_unknown_part_is_named():
    with pytest.raises(UserError, match="decodr.*'encoder', 'nerf_mlp' or 'decoder'"):
        _config("mlp", "{decodr: cpu}")


def test_numbers_are_cuda_devices_and_the_map_survives_a_file():
    config = _config("mlp", "{nerf_mlp: 1, decoder: cpu}")
    assert config.distributed.device_map == {"nerf_mlp": "cuda:1", "decoder": "cpu"}
    assert Config.model_validate(config_to_json(config)) == config
