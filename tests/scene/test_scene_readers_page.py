"""The reader in docs/readers.md is run as it stands there."""

import re
import types
from pathlib import Path

import numpy as np
import pytest

from blocknerf.core.config.dataset import DatasetConfig
from blocknerf.core.errors import UserError
from blocknerf.scene.readers import read
from blocknerf.scene.readers.read import Reader, read_scene
from blocknerf.scene.store import ImageStore
from tests.support.scene_builders import picture

PAGE = (Path(__file__).parents[2] / "docs" / "readers.md").read_text(encoding="utf-8")
HEAD = "name,focal_px,x_m,y_m,z_m,heading_deg\n"


@pytest.fixture
def capture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two photographs, and the page's reader in its place."""
    (source,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (line,) = re.findall(r"^Reader\((.*)\),$", PAGE, re.MULTILINE)
    module = types.ModuleType("csv_cameras")
    exec(compile(source, "docs/readers.md", "exec"), module.__dict__)
    reader = eval(f"Reader({line})", {"Reader": Reader, **module.__dict__})
    monkeypatch.setattr(read, "READERS", (*read.READERS, reader))
    root = tmp_path / "scene"
    (root / "images").mkdir(parents=True)
    for name in "ab":
        picture(8, 6).save(root / "images" / f"{name}.png")
    (root / "cameras.csv").write_text(HEAD + "a.png,5,1,2,3,90\nb.png,5,4,5,6,0\nc.png,5,4,5,6,0\n")
    return root


def test_its_rays_are_those_of_the_file(capture: Path):
    scene = read_scene(capture, DatasetConfig())
    assert [image.name for image in scene.images] == ["a.png", "b.png"]
    assert [name for name, _ in scene.skipped] == ["c.png"]
    store = ImageStore.open(scene, 1, capture.parent / "store", progress=False)
    rays = store.rays(scene.images[0].id)
    last = rays.directions[-1].numpy()  # of a camera that looks east: south is right, down is down
    assert np.allclose(last, np.array([5, -3.5, -2.5]) / np.linalg.norm([5, 3.5, 2.5]), atol=1e-6)
    assert np.allclose(rays.origins.numpy(), [1, 2, 3])


@pytest.mark.parametrize("line", ["a.png,5,1,2,3\n", "a.png,wide,1,2,3,90\n"])
def test_its_messages_name_the_line(capture: Path, line: str):
    (capture / "cameras.csv").write_text(HEAD + line)
    with pytest.raises(UserError, match=r"cameras\.csv, line 2: .* is missing or no number"):
        read_scene(capture, DatasetConfig())


def test_the_page_names_every_field_of_a_candidate():
    from dataclasses import fields

    from blocknerf.scene.readers.candidates import Candidate

    named = set(re.findall(r"`([a-z_]+)`", PAGE))
    assert {field.name for field in fields(Candidate)} <= named
