"""A room of two drives, and a city of small blocks in it that hold random weights."""

from pathlib import Path

import pytest

from blocknerf.scene.scene import Scene
from tests.support.random_city import write_city
from tests.support.room import write_room


@pytest.fixture(scope="session")
def room(tmp_path_factory) -> Path:
    return write_room(tmp_path_factory.mktemp("viewed_room"))


@pytest.fixture(scope="session")
def built(room, tmp_path_factory) -> tuple[Path, Scene]:
    """Output folder and scene; read them, never write to them."""
    out = tmp_path_factory.mktemp("viewed_city") / "out"
    return out, write_city(room, out)
