"""Prints the page of every configuration key, from the schema: python docs/configuration.py > docs/configuration.md"""

import sys
from typing import Any

from blocknerf.core.config.backbone import backbones
from blocknerf.core.config.config import Config
from blocknerf.core.config.effects import CHOICES, SWITCHES, Need

HEAD = """# Configuration

Every key with its default, its allowed values and its effect. A configuration file is YAML or JSON with these sections.
The command line sets single values as `section.key=value`. A misspelt key is an error that names the nearest one.

- `blocknerf config show` prints the configuration that a run would use.
- `blocknerf config check --config FILE` checks a file. With `--data-root SCENE` it also says which stages have a
  resolution above that of the scene's images.
- `blocknerf config schema` prints a JSON schema of this page, for editors.

Where the default is `null`, the description says what applies ("Default: ..."). Where `auto` is allowed, it is the same
as not to give the key: `--minutes` may then choose it ([how](scaling.md#a-budget)), and without `--minutes` it has its
default.

This page is generated: `python docs/configuration.py > docs/configuration.md`.
"""
NEEDS = """
## Keys that need another

Some keys have no effect unless another key has a certain value. Keys in the first table are then refused, if they are
given and differ from their default. So are keys of another backbone, and the weight of a loss term that only another
backbone has:

{choices}
Keys in the second table belong to a part that another key switches off. They are kept, with a message, and take effect
when the part is switched on:

{switches}
`distributed.backend` and `distributed.find_unused_parameters` matter only with `--distributed`. The config.json of an
output folder always loads.
"""


def page() -> str:
    schema = Config.model_json_schema()
    of_backbones = [need for backbone in backbones().values() for need in backbone.switches]
    sections = "".join(
        _section(name, kind, schema["$defs"])
        for name, tree in schema["properties"].items()
        for kind in tree.get("oneOf", [tree])
    )
    return (
        HEAD + sections + NEEDS.format(choices=_needs("", CHOICES), switches=_needs("if ", (*SWITCHES, *of_backbones)))
    )


def _needs(begin: str, needs: tuple[Need, ...]) -> str:
    rows = [f"| {', '.join(f'`{key}`' for key in need.keys)} | {begin}{need.other} |\n" for need in needs]
    return f"| key | has no effect |\n|---|---|\n{''.join(rows)}"


def _section(path: str, tree: dict[str, Any], defined: dict[str, Any]) -> str:
    """The table of a section, and then those of the sections within."""
    section = defined.get(_kind(tree), tree)
    keys = section["properties"]
    plain = {key: value for key, value in keys.items() if "properties" not in defined.get(_kind(value), {})}
    text = f"\n## `{path}`{_backbone(keys)}\n\n{section.get('description', '')}\n\n"
    text += "| key | default | allowed | effect |\n|---|---|---|---|\n"
    for key, value in plain.items():
        description = " ".join(value.get("description", "").split()).replace("|", "\\|")
        text += f"| `{key}` | {_default(value)} | {_allowed(value, defined)} | {description} |\n"
    within = {key: value for key, value in keys.items() if key not in plain}
    within |= {f"{key}[]": value["items"] for key, value in plain.items() if "$ref" in value.get("items", {})}
    return text + "".join(_section(f"{path}.{key}", value, defined) for key, value in within.items())


def _backbone(keys: dict[str, Any]) -> str:
    """Which of several sections of one name this is, for its heading."""
    name = keys.get("backbone", {}).get("const")
    return f" of backbone `{name}`" if name else ""


def _kind(tree: dict[str, Any]) -> str:
    return tree.get("$ref", "").rpartition("/")[2]


def _default(tree: dict[str, Any]) -> str:
    if "default" not in tree:
        return "*required*"
    value = tree["default"]
    return "`null`" if value is None else f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _allowed(tree: dict[str, Any], defined: dict[str, Any]) -> str:
    if "anyOf" in tree:
        return " or ".join(_allowed(choice, defined) for choice in tree["anyOf"])
    if "enum" in tree or "const" in tree:
        return ", ".join(f"`{value}`" for value in tree.get("enum", [tree.get("const")]))
    if tree.get("type") == "array":
        inner = tree.get("items") or {"type": f"{len(tree.get('prefixItems', ()))} values"}
        return f"list of {_kind(inner) or _allowed(inner, defined)}"
    bounds = [
        f"{sign} {tree[bound]:g}"
        for bound, sign in (("minimum", ">="), ("exclusiveMinimum", ">"), ("maximum", "<="), ("exclusiveMaximum", "<"))
        if bound in tree
    ]
    names = {"null": "`null`", "boolean": "`true`, `false`", "string": "text"}
    name = names.get(tree.get("type", ""), tree.get("type"))
    return " ".join([str(name), ", ".join(bounds)]).strip()


if __name__ == "__main__":
    sys.stdout.write(page())
