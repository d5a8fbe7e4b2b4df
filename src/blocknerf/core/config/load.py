"""Reading a configuration: files, overrides, and messages for their mistakes."""

import copy
import difflib
from collections.abc import Collection
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from blocknerf.core.config.config import Config
from blocknerf.core.config.effects import refused, waiting
from blocknerf.core.config.keys import known_keys
from blocknerf.core.config.other_backbones import keys_for_others
from blocknerf.core.errors import UserError, quote
from blocknerf.core.logging import log
from blocknerf.core.reading import Damaged, parse_yaml, read_json, read_yaml


def load_config(
    path: Path | None,
    overrides: list[str] | tuple[str, ...] = (),
    stored: bool = False,
    without: Collection[str] = (),
) -> Config:
    """Reads a YAML or JSON file (without one, the defaults) and applies `section.key=value` overrides.

    Of the file, keys `without` (section.key) are passed over.

    Raises UserError that names the file, the key and its nearest known neighbour, also for a key without effect (see
    effects.py). In a configuration that a run has `stored`, only overrides are checked for that.
    """
    tree: Any = {}
    origin = "the command line"
    if path is not None:
        origin = str(path)
        tree = read_json(path, "configuration") if path.suffix == ".json" else read_yaml(path, "configuration")
        tree = {} if tree is None else tree
        if not isinstance(tree, dict):
            raise UserError(f"{path} holds a {type(tree).__name__}; a configuration is a mapping of sections.")
    for key in without:
        _forget(tree, key)
    given: dict[str, Any] = {} if stored else copy.deepcopy(tree)
    for override in overrides:
        _apply_override(tree, override)
        _apply_override(given, override)
    return validated(tree, origin, given)


def validated(tree: dict[str, Any], origin: str, given: dict[str, Any] | None = None) -> Config:
    """The configuration of a tree of sections; raises UserError that names the `origin` and what is wrong.

    `given`: the part that a person wrote, which must have an effect (default: all of it).
    """
    try:
        config = Config.model_validate(tree)
    except ValidationError as error:
        raise UserError(_explain(error, origin)) from error
    default = Config.model_validate({"block_nerf": {"backbone": config.block_nerf.backbone}})
    explicit = tree if given is None else given
    if silent := [*keys_for_others(config, default, explicit), *refused(config, default, explicit)]:
        raise UserError(f"The configuration from {origin} cannot be used: {'; '.join(silent)}.")
    for sentence in waiting(config, default, explicit):
        log.info(sentence)
    return config


def config_to_json(config: Config) -> dict[str, Any]:
    return config.model_dump(mode="json")


def _forget(tree: Any, key: str) -> None:
    *sections, name = key.split(".")
    for section in sections:
        tree = tree.get(section) if isinstance(tree, dict) else None
    if isinstance(tree, dict):
        tree.pop(name, None)


def _apply_override(tree: dict, override: str) -> None:
    dotted, equals, text = override.partition("=")
    if not equals or not dotted.strip():
        raise UserError(f"{override!r} is not an override; write section.key=value, as in training.max_minutes=5.")
    try:
        value = parse_yaml(text) if text else None
    except Damaged as error:
        raise UserError(f"The value in {quote(override)} cannot be read: {error}.") from error
    *sections, key = dotted.strip().replace("-", "_").split(".")
    for section in sections:
        tree = tree.setdefault(section, {})
        if not isinstance(tree, dict):
            raise UserError(f"{override!r}: {section!r} is a value, not a section.")
    tree[key] = value


def _explain(error: ValidationError, origin: str) -> str:
    lines = []
    for problem in error.errors():
        where = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            lines.append(f"unknown key {where!r}" + _nearest(problem["loc"]))
        else:
            arrived = "" if isinstance(problem["input"], dict) else f", not {problem['input']!r}"
            cause = problem.get("ctx", {}).get("error")
            message = f"{cause}" if cause else problem["msg"].lower()
            lines.append(f"{where}: {message}{arrived}" if where else f"{message}{arrived}")
    return f"The configuration from {origin} cannot be used: " + "; ".join(lines) + "."


def _nearest(location: tuple[int | str, ...]) -> str:
    known = known_keys(Config)
    section, name = ".".join(str(part) for part in location[:-1]), str(location[-1])
    in_section = [key for key in known if key.rpartition(".")[0] == section]
    all_names = {key.rpartition(".")[2]: key for key in known}
    section_names = {key.rpartition(".")[2]: key for key in in_section}
    for names, cutoff in ((all_names, 1.0), (section_names, 0.6), (all_names, 0.6)):
        match = difflib.get_close_matches(name, names, 1, cutoff)
        if match:
            return f" (did you mean {names[match[0]]!r}?)"
    return f" (allowed there: {', '.join(sorted(key.rpartition('.')[2] for key in in_section))})"
