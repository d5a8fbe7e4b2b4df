"""Compiled code is kept for as long as everything stands that was built into it."""

import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import llvmlite
import numba
import numpy as np
import pytest

import blocknerf.kernels.jit.compiled as compiled_module
from blocknerf.kernels.jit.compiled import PACKAGE, compiled, is_compiled, stamp_of
from blocknerf.scene.radii_numba import picture_radii

MODULES = sorted([*PACKAGE.rglob("*numba.py"), *(PACKAGE / "kernels" / "jit").glob("*.py")])
BUILT_IN = [*(str(path.relative_to(PACKAGE)) for path in MODULES), "kernels/splats/reference.py"]
SAMPLE = """
import numpy as np
from blocknerf.scene.sampler_numba import gather_pixels

whole, floats = np.zeros(1, np.int64), np.zeros((1, 3), np.float32)
directions = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
radii = np.zeros(1, np.float32)
pose, rgb, offsets = np.eye(4)[None, :3], floats.astype(np.uint8), np.zeros((0, 3))
level = whole, whole + 2, whole + 2, pose, rgb, directions, offsets, radii[:0]
gather_pixels(whole, whole, whole, *level, whole, floats, floats, radii, floats, np.zeros((1, 2)), radii.copy())
print(radii[0])
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    return shutil.copytree(
        PACKAGE, tmp_path_factory.mktemp("copy") / "blocknerf", ignore=lambda _, names: {"__pycache__"} & {*names}
    )


@pytest.mark.parametrize("name", BUILT_IN)
def test_what_is_compiled_is_for_all_that_is_built_into_it(package, name):
    """Radii are computed inside the sampler's loop: a change of theirs is one of its."""
    before, text = stamp_of(package), (package / name).read_text(encoding="utf-8")
    (package / name).write_text(f"{text}#\n", encoding="utf-8")
    assert stamp_of(package) != before
    (package / name).write_text(text, encoding="utf-8")
    assert stamp_of(package) == before


def _sampled_radius(package: Path) -> float:
    """Of a pixel that the sampler of a copy of the package drew."""
    environment = os.environ | {"PYTHONPATH": str(package.parent), "NUMBA_CACHE_DIR": str(package / "cache")}
    command = [sys.executable, "-c", SAMPLE]
    return float(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


def test_a_change_of_what_the_sampler_calls_reaches_the_sampler(package):
    """From one process to the next, with the code that the first one kept."""
    radii = package / "scene" / "radii_numba.py"
    text = radii.read_text(encoding="utf-8")
    first = _sampled_radius(package)
    assert list((package / "cache").rglob("sampler_numba.gather_pixels*"))
    assert _sampled_radius(package) == first > 0
    radii.write_text(text.replace("(wide + high) / 6", "(wide + high) / 24"), encoding="utf-8")
    assert _sampled_radius(package) == pytest.approx(first / 2)
    radii.write_text(text, encoding="utf-8")


@pytest.mark.parametrize(
    ("owner", "name", "value"),
    [(numba, "__version__", "0.0"), (llvmlite, "__version__", "0.0"), (numba.config, "BOUNDSCHECK", 1)],  # pyright: ignore[reportPrivateImportUsage]
)
def test_and_for_who_compiles_it_and_how(monkeypatch, owner, name, value):
    monkeypatch.setattr(owner, name, value)
    assert stamp_of(PACKAGE) != compiled_module._STAMP


def test_every_function_that_is_kept_has_the_one_stamp():
    names = (".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in MODULES)
    functions = [each for name in names for each in vars(importlib.import_module(name)).values()]
    kept = [each for each in functions if hasattr(getattr(each, "_cache", None), "_cache_file")]
    assert len(kept) > 50
    assert {function._cache._cache_file._source_stamp for function in kept} == {stamp_of(PACKAGE)}


def test_code_with_another_stamp_is_compiled_again(monkeypatch):
    picture_radii(np.zeros((4, 3), np.float32), 2, 2)
    assert is_compiled(picture_radii)
    monkeypatch.setattr(compiled_module, "_STAMP", "of other helpers")
    assert not is_compiled(compiled(picture_radii.py_func))
