"""Keys by name: all of them, and those that may change between runs of one output folder."""

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from blocknerf.core.config.backbone import BackboneConfig, backbones
from blocknerf.core.config.config import Config
from blocknerf.core.config.section import CHANGEABLE


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


def sections_of(field: FieldInfo) -> list[type[BaseModel]]:
    """The sections that a key may hold: one per backbone for block_nerf, none for a value."""
    kind = field.annotation
    if kind is BackboneConfig:
        return [*backbones().values()]
    return [kind] if isinstance(kind, type) and issubclass(kind, BaseModel) else []
