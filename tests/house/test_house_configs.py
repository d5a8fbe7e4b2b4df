"""Every configuration that we ship loads, and says only what its defaults do not say."""

import re
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from blocknerf.core.config import Config, load_config

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))


def test_there_are_configurations():
    assert {path.stem for path in CONFIGS} >= {"quickstart", "street", "aerial", "object", "paper"}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_shipped_configuration_loads_with_every_value_as_written(path):
    config = load_config(path)
    assert config != Config()
    assert_holds(config, yaml.safe_load(path.read_text(encoding="utf-8")))


def assert_holds(section: BaseModel, written: dict) -> None:
    for key, value in written.items():
        held = getattr(section, key)
        if isinstance(held, BaseModel):
            assert_holds(held, value)
        else:
            assert held == (tuple(value) if isinstance(value, list) else value)


def leaves(section: type[BaseModel], prefix: str = "") -> list[str]:
    found = []
    for name, field in section.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            found += leaves(inner, f"{prefix}{name}.")
        else:
            found.append(prefix + name)
    return found


SECTION_NAMES = {
    "dataset": ("config",),
    "block_manager": ("config", "settings", "manager", "rules"),
    "block_nerf": ("config", "field"),
    "block_nerf.hash_grid": ("config", "grid"),
    "appearance_embedding": ("config",),
    "exposure_encoding": (),
    "pose_refinement": ("config", "settings"),
    "visibility_network": ("config",),
    "training": ("config", "settings"),
    "validation": (),
    "logging": (),
    "output": (),
}
"""What the code calls a section, apart from the section's own name."""


@pytest.mark.parametrize("key", leaves(Config))
def test_every_key_is_read_somewhere(key):
    """A key without effect is a promise that nobody keeps."""
    section, _, name = key.rpartition(".")
    holders = "|".join((section.rpartition(".")[2], *SECTION_NAMES[section]))
    read = re.compile(rf"\b({holders})\.{name}\b")
    sources = [path for path in (ROOT / "src").rglob("*.py") if path.name != "config.py"]
    assert any(read.search(path.read_text(encoding="utf-8")) for path in sources)
