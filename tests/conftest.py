"""Checks of shapes and types in every module of the package, and fixtures that several areas share."""

from pathlib import Path

import pytest
from jaxtyping import install_import_hook

SOURCES = Path(__file__).parents[1] / "src"


def modules_to_check() -> list[str]:
    """Every module but those with functions that numba compiles: it takes them as they are, without a decorator."""
    sources = [path for path in sorted(SOURCES.rglob("*.py")) if "njit" not in path.read_text(encoding="utf-8")]
    modules = (".".join(path.relative_to(SOURCES).with_suffix("").parts) for path in sources)
    return [module for module in modules if not module.endswith("__init__")]


install_import_hook(modules_to_check(), "beartype.beartype")


@pytest.fixture(scope="session")
def tiny_city(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny synthetic city, made once in a test run; read it, never write to it."""
    pytest.importorskip("embreex", reason="the synthetic city needs: pip install 'blocknerf[demo]'")
    from blocknerf.synth.generate import make_scene

    folder = tmp_path_factory.mktemp("synth") / "tiny"
    make_scene(folder, "tiny", seed=0)
    return folder
