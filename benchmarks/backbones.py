"""Trains one scene with each backbone for the same time and prints a row of figures for each.

python -m benchmarks.backbones SCENE OUT [--minutes 4] [--config configs/object.yaml] [section.key=value ...]
"""

import argparse
import json
from pathlib import Path

from benchmarks.capture import row
from benchmarks.measure import blocknerf, run, where

BACKBONES = {
    "hash": [],
    "mlp": ["block_nerf.backbone=mlp", "dataset.batch_size=256"],
    "mlp, narrow": [
        "block_nerf.backbone=mlp", "block_nerf.hidden_dim=64", "block_nerf.num_samples_coarse=32",
        "block_nerf.num_samples_fine=32", "block_nerf.density_activation=exp", "training.nerf_lr=2e-3",
        "dataset.batch_size=512",
    ],
}  # fmt: skip
"""`mlp` has the documents' widths and samples; batches so small that a processor takes more than a few steps."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scene", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--config", type=Path, default=Path("configs/object.yaml"))
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_intermixed_args()

    rows = []
    for name, options in BACKBONES.items():
        out = arguments.out / name.replace(", ", "_")
        place = ["--config", arguments.config, "--data-root", arguments.scene, "--output-dir", out]
        clock = [f"training.max_minutes={arguments.minutes}", "training.num_epochs=1000"]
        run(blocknerf("train", *place, *clock, *options, *arguments.overrides))
        run(blocknerf("evaluate", out))
        rows.append({"backbone": name, **row(out)})
    print(json.dumps({"scene": arguments.scene.name, "rows": rows, "where": where()}))


if __name__ == "__main__":
    main()
