"""Every configuration that we ship loads, and says only what its defaults do not say."""

from pathlib import Path

import pytest
import yaml

from blocknerf.core.config import Config, load_config

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))


def test_there_are_configurations():
    assert {path.stem for path in CONFIGS} >= {"quickstart", "street", "aerial", "object"}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_shipped_configuration_loads_with_every_value_as_written(path):
    config = load_config(path)
    assert config != Config()
    for section, keys in yaml.safe_load(path.read_text(encoding="utf-8")).items():
        for key, value in keys.items():
            assert getattr(getattr(config, section), key) == value
