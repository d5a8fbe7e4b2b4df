"""Keys by name: all of them, and those that may change between runs of one output folder."""

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from blocknerf.core.config.config import Config
from blocknerf.core.config.section import CHANGEABLE


def known_keys(section: type[BaseModel], prefix: str = "") -> list[str]:
    """Every key of a section and of those within it, as section.key; the sections themselves are among them."""
    keys = []
    for name, field in section.model_fields.items():
        keys.append(prefix + name)
        inner = section_of(field)
        if inner is not None:
            keys += known_keys(inner, f"{prefix}{name}.")
    return keys


def changeable_keys(section: type[BaseModel] = Config, prefix: str = "") -> tuple[str, ...]:
    """Keys marked CHANGEABLE, as section.key; a section that is marked ends with a dot."""
    keys: list[str] = []
    for name, field in section.model_fields.items():
        inner = section_of(field)
        if CHANGEABLE in field.metadata:
            keys.append(prefix + name if inner is None else f"{prefix}{name}.")
        elif inner is not None:
            keys += changeable_keys(inner, f"{prefix}{name}.")
    return tuple(keys)


def section_of(field: FieldInfo) -> type[BaseModel] | None:
    """The section that a key holds; None for a value."""
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None
