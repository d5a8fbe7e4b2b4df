"""Trains one scene with each backbone for the same time.

python -m benchmarks.quality.backbones SCENE OUT [--minutes 4] [--backbones hash,mlp,narrow] [--config FILE]
    [section.key=value ...]

Of `fox` at 1/8, evaluating `mlp` takes as long again: a picture is as slow as the training of as many rays is.
"""

import argparse
from pathlib import Path

from benchmarks.measure import blocknerf, run
from benchmarks.quality.capture import learned, row
from benchmarks.report import report

BACKBONES = {
    "hash": [],
    "mlp": ["block_nerf.backbone=mlp", "dataset.batch_size=256"],
    "narrow": [
        "block_nerf.backbone=mlp",
        "block_nerf.hidden_dim=64",
        "block_nerf.num_samples_coarse=32",
        "block_nerf.num_samples_fine=32",
        "block_nerf.density_activation=exp",
        "training.nerf_lr=5e-3",
        "dataset.batch_size=512",
    ],
}
"""`mlp` has widths and samples as usual for such networks, and a batch of which a processor takes more than a few;
`narrow` is the smallest that still learns something in minutes."""

TITLES = {
    "hash": "`hash`",
    "mlp": "`mlp`, the paper's widths and samples",
    "narrow": "`mlp`, the narrowest that learns something in minutes",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scene", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--config", type=Path, default=Path("configs/object.yaml"))
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument("--backbones", default=",".join(BACKBONES))
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_intermixed_args()

    rows = {}
    for name in arguments.backbones.split(","):
        out, options = arguments.out / name, BACKBONES[name]
        place = ["--config", arguments.config, "--data-root", arguments.scene, "--output-dir", out]
        clock = [f"training.max_minutes={arguments.minutes}", "training.num_epochs=1000"]
        run(blocknerf("train", *place, *clock, *options, *arguments.overrides))
        run(blocknerf("evaluate", out, "--protocols", "plain"))
        rows[TITLES[name]] = row(out)
    report("quality/backbones", {name: learned(each) for name, each in rows.items()}, arguments.scene.name, rows)


if __name__ == "__main__":
    main()
