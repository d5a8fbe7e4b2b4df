"""Trains one of NeRF's synthetic scenes, usually lego, and prints its PSNR beside the published figures of lego.

python -m benchmarks.quality.lego FOLDER [OUT] [--minutes 20] [--config FILE] [section.key=value ...]

Pictures keep their size and are put on white. Published figures are of 800 x 800 pixels, all 100 training and all 200
test images; those of another size, as with `dataset.image_downsample=2`, are not comparable.
"""

import argparse
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.measure import blocknerf, run
from benchmarks.quality.capture import row
from benchmarks.report import report
from benchmarks.results import Cell, measured
from blocknerf.scene.photographs import opened_picture

AS_PUBLISHED = ["dataset.image_downsample=1", "dataset.alpha=white", "training.num_epochs=1000"]
AS_PUBLISHED += ["dataset.batch_size=4096", "block_nerf.hash_grid.log2_table_rows=18", "block_nerf.num_samples_fine=20"]
"""Whole pictures on white; the clock ends training; sizes are those that --minutes would choose here, the same on every
machine."""

PUBLISHED: dict[str, dict[str, Cell]] = {
    "NeRF": {
        "PSNR": "32.54 dB",
        "training": "1 to 2 days on a V100",
        "source": "Mildenhall et al. 2020, table of scenes",
    },
    "mip-NeRF": {
        "PSNR": "35.70 dB",
        "training": "1,000,000 steps",
        "source": "Barron et al. 2021, as listed by Kerbl et al. 2023",
    },
    "instant-ngp": {
        "PSNR": "36.39 dB",
        "training": "5 minutes on an RTX 3090",
        "source": "Mueller et al. 2022, table of scenes; measured on black",
    },
    "3DGS": {
        "PSNR": "35.78 dB",
        "training": "30,000 steps",
        "source": "Kerbl et al. 2023, table of scenes",
    },
    "nerfacto": {
        "PSNR": "not known",
        "pictures": "",
        "source": "no figure of its authors (Tancik et al. 2023) is known to us",
    },
}
"""Of lego, as the authors say."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scene", type=Path, help="the folder with transforms_train.json")
    parser.add_argument("out", type=Path, nargs="?", help="default: a new temporary folder")
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--config", type=Path, default=Path("configs/object.yaml"))
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_intermixed_args()

    out = arguments.out or Path(tempfile.mkdtemp(prefix="blocknerf_lego_")) / "run"
    options = [*AS_PUBLISHED, f"training.max_minutes={arguments.minutes}", *arguments.overrides]
    place = ["--config", arguments.config, "--data-root", arguments.scene, "--output-dir", out]
    trained = run(blocknerf("train", *place, *options))
    run(blocknerf("evaluate", out, "--protocols", "plain"))
    figures: dict[str, Any] = row(out) | {"processor_s": round(trained.processor_s, 1)}
    size = " x ".join(map(str, picture_size(out)))
    cells: Mapping[str, Cell] = {
        "PSNR": measured(figures["psnr"], "dB"),
        "SSIM": measured(figures["ssim"], format=".3f"),
        "training": f"{max(figures['train_s_per_block']) / 60:.3g} minutes",
        "processor minutes": measured(trained.processor_s / 60, format=".1f"),
        "pictures": f"{figures['test_images']} of {size}",
        "source": "this command",
    }
    name = f"blocknerf, {arguments.minutes:g} minutes at {size}"
    report("quality/lego", {name: cells, **published()}, arguments.scene.name, {name: figures})


def published() -> dict[str, dict[str, Cell]]:
    return {f"{name}, published": {"pictures": "200 of 800 x 800"} | cells for name, cells in PUBLISHED.items()}


def picture_size(out: Path) -> tuple[int, int]:
    """Width and height of the test pictures that were compared."""
    images = json.loads((out / "report" / "metrics.json").read_text())["images"]
    with opened_picture(out / "report" / "images" / images[0]["pictures"]["truth"]) as truth:
        return truth.size


if __name__ == "__main__":
    main()
