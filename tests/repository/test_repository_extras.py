"""The program without any of its extras: everything can be imported, and what is used says what it needs."""

import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from blocknerf.core.errors import UserError
from blocknerf.core.extras import Extra

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PACKAGES = (
    *("embreex", "OpenEXR", "plyfile", "rasterio", "ray", "scipy", "skimage", "stlpips_pytorch", "torchvision"),
    *("transformers", "trimesh", "viser"),
)
NOT_OURS_TO_IMPORT = ("__main__", ".triton", "blocknerf_spec")
"""A program, kernels that ask whether there is triton before, and what nerfbaselines alone imports."""
WITHOUT = f"""
import importlib, json, pkgutil, sys
for name in {PACKAGES!r}:
    sys.modules[name] = None
import blocknerf.cli.main
from blocknerf.core.errors import UserError
from blocknerf.core.extras import Extra

said = {{}}
for found in pkgutil.walk_packages(blocknerf.__path__, "blocknerf."):
    if not found.name.endswith({NOT_OURS_TO_IMPORT!r}):
        module = importlib.import_module(found.name)
        for extra in (value for value in vars(module).values() if isinstance(value, Extra)):
            try:
                extra.require()
            except UserError as error:
                said[f"{{extra._module}} {{extra._extra}}"] = str(error)
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def sentences() -> dict[str, str]:
    """What each extra of any module says when its package is missing; every module was imported without them."""
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_every_module_is_imported_without_them_and_each_says_what_to_install(sentences):
    used = {key.partition(" ")[0].partition(".")[0] for key in sentences}
    assert used == set(PACKAGES) - {"plyfile", "stlpips_pytorch"}  # opened by tests; whose weights alone are read
    for key, sentence in sentences.items():
        module, _, extra = key.partition(" ")
        package = module.partition(".")[0]
        assert f"needs {package}, which is not installed; run: pip install 'blocknerf[{extra}]'" in sentence


def test_what_is_said_brings_the_package(sentences):
    """The extra that a sentence names lists the distribution that has the package."""
    distributions = packages_distributions()
    for key in sentences:
        module, _, extra = key.partition(" ")
        wanted = {re.split(r"[^\w-]", line)[0].lower() for line in PROJECT["optional-dependencies"][extra]}
        names = distributions.get(module.partition(".")[0], [module.partition(".")[0]])
        assert wanted & {name.lower().replace("_", "-") for name in names}, (key, wanted)


def test_a_package_that_is_there_is_itself_and_one_that_breaks_says_why(monkeypatch, tmp_path):
    assert Extra("json", "export", "This").loads("1") == 1
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "broken_package.py").write_text("import nothing_of_that_name\n")
    with pytest.raises(UserError, match="This needs broken_package, which cannot be imported"):
        Extra("broken_package", "export", "This").require()
