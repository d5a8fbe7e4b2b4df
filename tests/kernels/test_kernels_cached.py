"""Compiled code is kept for as long as everything stands that was built into it."""

import importlib
import shutil

import llvmlite
import numba
import numpy as np
import pytest

from blocknerf.kernels import cached_numba
from blocknerf.kernels.cached_numba import PACKAGE, cached, is_compiled, stamp_of
from blocknerf.scene.radii_numba import picture_radii

MODULES = sorted(PACKAGE.rglob("*_numba.py"))
BUILT_IN = [*(str(path.relative_to(PACKAGE)) for path in MODULES), "kernels/splats.py"]


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


@pytest.mark.parametrize(
    ("owner", "name", "value"),
    [(numba, "__version__", "0.0"), (llvmlite, "__version__", "0.0"), (numba.config, "BOUNDSCHECK", 1)],  # pyright: ignore[reportPrivateImportUsage]
)
def test_and_for_who_compiles_it_and_how(monkeypatch, owner, name, value):
    monkeypatch.setattr(owner, name, value)
    assert stamp_of(PACKAGE) != cached_numba._STAMP


def test_every_function_that_is_kept_has_the_one_stamp():
    names = (".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in MODULES)
    functions = [each for name in names for each in vars(importlib.import_module(name)).values()]
    kept = [each for each in functions if hasattr(getattr(each, "_cache", None), "_cache_file")]
    assert len(kept) > 50
    assert {function._cache._cache_file._source_stamp for function in kept} == {stamp_of(PACKAGE)}


def test_code_with_another_stamp_is_compiled_again(monkeypatch):
    picture_radii(np.zeros((4, 3), np.float32), 2, 2)
    assert is_compiled(picture_radii)
    monkeypatch.setattr(cached_numba, "_STAMP", "of other helpers")
    assert not is_compiled(cached(picture_radii.py_func))
