"""Prints the lowest version that pyproject.toml allows of each dependency, as constraints for pip.

python tests/support/lowest_versions.py [PACKAGE ...] > constraints.txt

Packages that are named are left out: those of which another version is to be kept, as a torch that is installed.
"""

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


def requirements() -> dict[str, str]:
    """Every dependency of the package and of its extras, with its version specifiers, as in {"numpy": ">=2.0,<3"}."""
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    lines = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    parts = (re.fullmatch(r"([\w-]+)(?:\[\w+\])?([^;]*)(;.*)?", line) for line in lines)
    return {part[1]: part[2].strip() for part in parts if part is not None}


def constraints(kept: list[str]) -> Iterator[str]:
    for name, bounds in requirements().items():
        lowest = re.search(r">=([^,]+)", bounds)
        if lowest is not None and name not in kept:
            yield f"{name}=={lowest[1]}"


if __name__ == "__main__":
    sys.stdout.write("\n".join(constraints(sys.argv[1:])) + "\n")
