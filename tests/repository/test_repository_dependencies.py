"""Each dependency has a lower and an upper bound, and both ends are what tests run with."""

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from tests.support import lowest_versions
from tests.support.lowest_versions import constraints, requirements

MAKEFILE = (Path(__file__).parents[2] / "Makefile").read_text(encoding="utf-8")


@pytest.mark.parametrize(("name", "bounds"), requirements().items())
def test_every_dependency_has_both_bounds_and_what_is_installed_lies_between(name, bounds):
    assert re.fullmatch(r">=[\w.]+,<[\w.]+", bounds), f"{name}{bounds}"
    try:
        installed = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return  # an extra that this environment has not
    assert SpecifierSet(bounds).contains(Version(installed).public), f"{name} {installed} is outside of {bounds}"


def test_the_lowest_environment_has_the_lower_bound_of_each():
    for line in constraints([]):
        name, _, version = line.partition("==")
        assert f">={version}," in requirements()[name]
    assert not [line for line in constraints(["torch"]) if line.startswith("torch==")]


def test_both_ends_have_a_command():
    output = subprocess.check_output([sys.executable, lowest_versions.__file__, "torch"], text=True, timeout=60)
    assert "numba==" in output
    assert "torch==" not in [line[:7] for line in output.splitlines()]
    for target in ("test-lowest", "test-newest"):
        assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE)
