"""Checks of shapes and types in every module of the package, and fixtures that several areas share."""

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[1] / "src"
COMPILES = re.compile(r"@triton\.jit|@compiled\b|@kernel\(|@built_in|^from numba import", re.MULTILINE)
os.environ.setdefault(
    "TRITON_INTERPRET", "1"
)  # read where a kernel is decorated: they run on a processor, step by step
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # hundreds of processes start, each of which would compile all again
sys.dont_write_bytecode = False
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the command line does, before torch is imported


def modules_to_check() -> list[str]:
    """Every module but those with functions that are compiled: those are taken as they are, without a decorator."""
    texts = {path: path.read_text(encoding="utf-8") for path in sorted(SOURCES.rglob("*.py"))}
    compiled = {path for path, text in texts.items() if COMPILES.search(text)}
    sources = [path for path in texts if path not in compiled]
    modules = (".".join(path.relative_to(SOURCES).with_suffix("").parts) for path in sources)
    return [module for module in modules if not module.endswith("__init__")]


pytest.register_assert_rewrite("tests.support")  # before the first of them is imported
from tests.support.shapes import check_shapes  # noqa: E402

check_shapes(modules_to_check())


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Workers of pytest share the cores; a test that is of several threads asks for `threads`."""
    from blocknerf.runtime.pool import set_num_threads

    set_num_threads(1)


@pytest.fixture(params=[1, 2, 5])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """So many threads kernels have here."""
    from blocknerf.runtime.pool import num_threads, set_num_threads

    before = num_threads()
    set_num_threads(request.param)
    yield request.param
    set_num_threads(before)


@pytest.fixture(scope="session")
def tiny_city(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny synthetic city, made once in a test run; read it, never write to it."""
    pytest.importorskip("embreex", reason="the synthetic city needs: pip install 'blocknerf[demo]'")
    from blocknerf.core.lock import locked_file
    from blocknerf.synth.generate import make_scene

    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "synth"
    folder.mkdir(exist_ok=True)
    # The first worker makes it; the others wait and find it.
    with locked_file(folder / "worker", "The tiny city is being made by another worker", wait_s=600.0):
        make_scene(folder / "tiny", "tiny", seed=0)
    return folder / "tiny"
