"""Prints the page of every configuration key, from the schema: python docs/configuration.py > docs/configuration.md"""

import sys
from typing import Any

from blocknerf.core.config.backbone import backbones
from blocknerf.core.config.config import Config
from blocknerf.core.config.effects import CHOICES, SWITCHES, Need

HEAD = """# Configuration

Every key, its default, what it may be, and what it does. A file is YAML or JSON with these sections; single values are
given on the command line as `section.key=value`. A misspelt key is an error that names the nearest one.
`blocknerf config show` prints what a run would have, `blocknerf config check --config FILE` says what is wrong, and
with `--data-root SCENE` which stages are above its images; `blocknerf config schema` prints the JSON schema of this
page for editors.

This page is printed by `python docs/configuration.py`.
"""
NEEDS = """
## Keys that need another

Beside some values of one key another changes nothing. Where the one chooses another kind of thing, the other is
refused, if it is given and is not its default. So are keys of another backbone, and the weight of a term that only
another has:

{choices}
Where the one switches a part off, what is told of that part waits until it is switched on, and that is said:

{switches}
`distributed.backend` and `distributed.find_unused_parameters` are for `--distributed`. What a folder has stored in its
config.json always loads.
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
        HEAD
        + sections
        + NEEDS.format(choices=_needs("", CHOICES), switches=_needs("where ", (*SWITCHES, *of_backbones)))
    )


def _needs(begin: str, needs: tuple[Need, ...]) -> str:
    rows = [f"| {', '.join(f'`{key}`' for key in need.keys)} | {begin}{need.other} |\n" for need in needs]
    return f"| without effect | |\n|---|---|\n{''.join(rows)}"


def _section(path: str, tree: dict[str, Any], defined: dict[str, Any]) -> str:
    """The table of a section, and then those of the sections within."""
    section = defined.get(_kind(tree), tree)
    keys = section["properties"]
    plain = {key: value for key, value in keys.items() if "properties" not in defined.get(_kind(value), {})}
    text = f"\n## `{path}`\n\n{section.get('description', '')}\n\n| key | default | may be | |\n|---|---|---|---|\n"
    for key, value in plain.items():
        told = " ".join(value.get("description", "").split()).replace("|", "\\|")
        text += f"| `{key}` | {_default(value)} | {_allowed(value, defined)} | {told} |\n"
    within = {key: value for key, value in keys.items() if key not in plain}
    within |= {f"{key}[]": value["items"] for key, value in plain.items() if "$ref" in value.get("items", {})}
    return text + "".join(_section(f"{path}.{key}", value, defined) for key, value in within.items())


def _kind(tree: dict[str, Any]) -> str:
    return tree.get("$ref", "").rpartition("/")[2]


def _default(tree: dict[str, Any]) -> str:
    if "default" not in tree:
        return "*required*"
    value = tree["default"]
    return "none" if value is None else f"`{str(value).lower() if isinstance(value, bool) else value}`"


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
    name = {"null": "none", "boolean": "`true`, `false`", "string": "text"}.get(tree.get("type", ""), tree.get("type"))
    return " ".join([str(name), ", ".join(bounds)]).strip()


if __name__ == "__main__":
    sys.stdout.write(page())
