"""The documents' flat configuration: names, defaults, their example, and what becomes of each attribute."""

from dataclasses import fields
from functools import reduce

import pytest

from blocknerf.compat.training_config import DISTRIBUTED, KEYS, REPLACEMENTS, BlockNeRFTrainingConfig
from blocknerf.core.errors import UserError


def test_the_documents_example_runs(caplog):
    caplog.set_level("INFO")
    config = BlockNeRFTrainingConfig()
    config.batch_size = 8192
    config.num_epochs = 300
    config.distributed = True
    schema = config.to_config()
    assert (schema.dataset.batch_size, schema.training.num_epochs) == (8192, 300)
    assert caplog.messages == [f"BlockNeRFTrainingConfig.distributed: {DISTRIBUTED}."]


def test_every_attribute_goes_somewhere():
    names = {one.name for one in fields(BlockNeRFTrainingConfig)}
    assert names == {*KEYS, *REPLACEMENTS, "distributed", "visibility_hidden_dim"}


@pytest.mark.parametrize("name", KEYS)
def test_an_attribute_becomes_its_key(name):
    flat = BlockNeRFTrainingConfig()
    value = getattr(flat, name)
    changed = {
        bool: lambda: not value,
        list: lambda: [2 * number for number in value] if name == "scene_bounds" else [50, 60],
        int: lambda: value + 4,
        float: lambda: value / 2,
        str: lambda: f"{value}/elsewhere",
    }[type(value)]()
    setattr(flat, name, changed)
    held = reduce(getattr, KEYS[name].split("."), flat.to_config())
    assert held == (tuple(changed) if isinstance(changed, list) else changed)
    assert held != reduce(getattr, KEYS[name].split("."), BlockNeRFTrainingConfig().to_config())


def test_widths_of_visibility_halve_from_layer_to_layer():
    flat = BlockNeRFTrainingConfig()
    assert flat.to_config().visibility_network.hidden_dims == (512, 256, 128)
    flat.visibility_hidden_dim = 64
    assert flat.to_config().visibility_network.hidden_dims == (64, 32, 16)


def test_what_the_schema_refuses_is_refused_here():
    flat = BlockNeRFTrainingConfig()
    flat.batch_size = -1
    with pytest.raises(UserError, match=r"BlockNeRFTrainingConfig.*dataset\.batch_size"):
        flat.to_config()


def test_few_layers_have_no_joint():
    flat = BlockNeRFTrainingConfig()
    joints = []
    for layers in (4, 5, 6, 8):
        flat.nerf_layers = layers
        joints.append(flat.to_config().block_nerf.skip_connections)
    assert joints == [(), (), (4,), (4,)]


@pytest.mark.parametrize(("name", "value"), [("world_size", 4), ("use_model_parallel", True)])
def test_what_a_launcher_must_be_told_is_refused_with_what_to_do(name, value):
    flat = BlockNeRFTrainingConfig()
    setattr(flat, name, value)
    with pytest.raises(UserError, match=rf"cannot say how a run is started\. {name} {value}: .*(torchrun|device_map)"):
        flat.to_config()
