"""The notebook runs from top to bottom, and shows what it says."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))

TINY = """
PRESET, SIZE = "tiny", (40, 30)
SETTINGS += [
    "block_manager.min_images_per_block=4",
    "block_nerf.hash_grid.num_levels=4",
    "block_nerf.hash_grid.log2_table_rows=10",
    "block_nerf.proposal_resolution=12",
    "block_nerf.hidden_dim=16",
    "dataset.batch_size=64",
    "training.max_steps=40",
]
"""

RUN = """
import json
import sys
from pathlib import Path

import matplotlib.pyplot as plt

notebook, pictures, tiny = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]), sys.argv[3]


def show():
    plt.savefig(pictures / f"{len(list(pictures.iterdir())):02d}.png")
    plt.close("all")


def run():
    names = {"__name__": "notebook"}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), cell["id"], "exec"), names)
            if "parameters" in cell["metadata"].get("tags", ()):
                exec(tiny, names)


if __name__ == "__main__":
    plt.show = show
    run()
"""


def cells(notebook: Path) -> list[dict]:
    return json.loads(notebook.read_text(encoding="utf-8"))["cells"]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_output_is_stored(notebook):
    code = [cell for cell in cells(notebook) if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert sum("parameters" in cell["metadata"].get("tags", ()) for cell in code) == 1


@pytest.mark.demo
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_top_to_bottom(notebook, tmp_path, monkeypatch):
    pytest.importorskip("embreex", reason="the synthetic city needs: pip install 'blocknerf[demo]'")
    monkeypatch.setenv("MPLBACKEND", "agg")
    (tmp_path / "pictures").mkdir()
    (tmp_path / "run.py").write_text(RUN)
    command = [sys.executable, "run.py", str(notebook), "pictures", TINY]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    assert "PSNR" in done.stdout
    pictures = sorted((tmp_path / "pictures").iterdir())
    assert len(pictures) == sum(line.startswith("show(") for cell in cells(notebook) for line in cell["source"])
    for picture in pictures:
        assert np.asarray(Image.open(picture).convert("L")).std() > 10, picture.name
