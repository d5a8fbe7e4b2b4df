"""Every command of the README and of the tutorials is executed: in its order, as it is shown, on twelve photographs.

Folders are called what the pages call them. What lets the commands end within seconds is appended to them.
"""

import json
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from blocknerf.core.config.dataset import DatasetConfig
from blocknerf.export.splats_file import write_splats
from blocknerf.scene.readers.read import read_scene
from tests.support.made_splats import made_splats
from tests.support.photo_walk import photograph_walk, write_photographs
from tests.support.shown import commands_of

pytestmark = [pytest.mark.slow, pytest.mark.demo]

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs/tutorials").glob("*.md"))]

LEFT_OUT = {
    "blocknerf masks": "its network's weights would be downloaded",
    "blocknerf view": "it waits for a browser; tests/viewer drives one",
}

SMALL = "dataset.image_downsample=2 dataset.batch_size=512 training.max_minutes=1 training.max_steps=1000"
APPENDED = {
    "synth": "--preset tiny",
    "plan": SMALL,
    "train": SMALL,
    "render": "--frames 12 --size 40x30",
    "export orthophoto": "--pixel 1",
    "export mesh": "--voxel 1 --least-weight 0.00001 --smallest-piece 0.1 --views 6 --longest-side 160",
    "export points": "--tolerance 0.5 --least-views 0 --views 6 --longest-side 160",
    "export splats": "--splats 300 --steps 20 --views 6 --longest-side 160",
}
SHORT_STREET = "block_manager.block_size=10 block_manager.min_images_per_block=3"
"""Two blocks, where twenty metres were photographed."""


def called(command: str) -> str:
    """The words by which a command is called."""
    words = shlex.split(command)
    return " ".join(words[1:3] if words[1] == "export" else words[1:2])


def photographs(folder: Path) -> None:
    """A walk with GPS and two exposures; three pictures have the names that pages ask for."""
    walk = photograph_walk(12)
    names = [f"{n:02d}.jpg" for n in range(9)] + ["DUSK.jpg", "NAME.jpg", "NOON.jpg"]
    write_photographs(folder, replace(walk, names=tuple(names)), np.full(12, 200.0), exposures_s=(0.01, 0.02))


def lay_splats(blocks: Path) -> None:
    """What another trainer would have made of each block: splats where the block has its points."""
    for folder in sorted(path.parent for path in blocks.glob("*/block.json")):
        points = read_scene(folder, DatasetConfig()).points_world.astype(np.float32)
        splats = made_splats(len(points), degree=0)
        write_splats(folder / "splats.ply", replace(splats, means=points))


def prepared_command(command: str, folder: Path) -> list[str]:
    """As shown; a block's number is that of a block that there is, and sizes are small."""
    if "--blocks 003" in command:
        last = json.loads((folder / "OUT/plan.json").read_text())["blocks"][-1]["id"]
        command = command.replace("--blocks 003", f"--blocks {last}")
    if called(command) == "merge":
        lay_splats(folder / "BLOCKS")
    street = SHORT_STREET if called(command) in ("plan", "train") and "SCENE" in command else ""
    return shlex.split(f"{command.partition('#')[0]} {APPENDED.get(called(command), '')} {street}")[1:]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_the_commands_of_a_page_do_what_they_say(page, tmp_path):
    pytest.importorskip("embreex", reason="the synthetic city needs: pip install 'blocknerf[demo]'")
    photographs(tmp_path / "PHOTOGRAPHS")
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    for command in commands_of(page):
        if f"blocknerf {called(command)}" in LEFT_OUT:
            continue
        words = prepared_command(command, tmp_path)
        done = subprocess.run(
            [sys.executable, "-m", "blocknerf", *words],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-1000:]}\n{done.stderr[-3000:]}"
        written = [tmp_path / words[n + 1] for n, word in enumerate(words) if word == "--out"]
        assert [path for path in written if not path.exists()] == [], command


def test_what_is_left_out_is_shown_somewhere():
    on_pages = {f"blocknerf {called(command)}" for page in PAGES for command in commands_of(page)}
    assert set(LEFT_OUT) <= on_pages
    assert len(on_pages) > len(LEFT_OUT) + 10
