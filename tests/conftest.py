"""Fixtures that several areas share."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny_city(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny synthetic city, made once in a test run; read it, never write to it."""
    pytest.importorskip("embreex", reason="the synthetic city needs: pip install 'blocknerf[demo]'")
    from blocknerf.synth.generate import make_scene

    folder = tmp_path_factory.mktemp("synth") / "tiny"
    make_scene(folder, "tiny", seed=0)
    return folder
