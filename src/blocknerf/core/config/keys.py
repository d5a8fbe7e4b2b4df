"""Keys by name: all of them, those that may change between runs of one output folder, and those that nobody gave."""

from collections.abc import Mapping
from functools import reduce
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from blocknerf.core.config.backbone import BackboneConfig, backbones
from blocknerf.core.config.config import Config
from blocknerf.core.config.section import CHANGEABLE, CHOSEN, Section


def known_keys(section: type[BaseModel], prefix: str = "") -> list[str]:
    """Every key of a section and of those within it, as section.key; the sections themselves are among them."""
    keys = []
    for name, field in section.model_fields.items():
        keys.append(prefix + name)
        for inner in sections_of(field):
            keys += [key for key in known_keys(inner, f"{prefix}{name}.") if key not in keys]
    return keys


def changeable_keys(section: type[BaseModel] = Config, prefix: str = "") -> tuple[str, ...]:
    """Keys marked CHANGEABLE, as section.key; a section that is marked ends with a dot."""
    keys: list[str] = []
    for name, field in section.model_fields.items():
        inner = sections_of(field)
        if CHANGEABLE in field.metadata:
            keys.append(f"{prefix}{name}." if inner else prefix + name)
        else:
            keys += [key for kind in inner for key in changeable_keys(kind, f"{prefix}{name}.")]
    return tuple(keys)


def free_keys(section: Section, prefix: str = "") -> frozenset[str]:
    """Keys marked CHOSEN that were not given, as section.key: a budget may choose their values."""
    keys: set[str] = set()
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, Section):
            keys |= free_keys(value, f"{prefix}{name}.")
        elif CHOSEN in field.metadata and name not in section.model_fields_set:
            keys.add(prefix + name)
    return frozenset(keys)


def with_values(config: Config, values: Mapping[str, Any]) -> Config:
    """The configuration with other values of some keys (section.key), validated as a whole; all keys are then given."""
    tree = config.model_dump(mode="json")
    for key, value in values.items():
        *sections, name = key.split(".")
        reduce(dict.__getitem__, sections, tree)[name] = value
    return Config.model_validate(tree)


def sections_of(field: FieldInfo) -> list[type[BaseModel]]:
    """The sections that a key may hold: one per backbone for block_nerf, none for a value."""
    kind = field.annotation
    if kind is BackboneConfig:
        return [*backbones().values()]
    return [kind] if isinstance(kind, type) and issubclass(kind, BaseModel) else []
