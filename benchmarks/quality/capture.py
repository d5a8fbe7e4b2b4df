"""Trains and evaluates one capture through the command line and prints its row of docs/results.md.

python -m benchmarks.quality.capture SCENE OUT [--config FILE] [--jobs N] [section.key=value ...]
"""

import argparse
import json
from pathlib import Path

from benchmarks.measure import blocknerf, run, where


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scene", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--config", type=Path)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_intermixed_args()

    config = ["--config", arguments.config] if arguments.config else []
    place = ["--data-root", arguments.scene, "--output-dir", arguments.out, "--jobs", str(arguments.jobs)]
    trained = run(blocknerf("train", *config, *place, *arguments.overrides))
    evaluated = run(blocknerf("evaluate", arguments.out))
    print(json.dumps(row(arguments.out) | {
        "wall_s": round(trained.seconds),
        "peak_train_gb": round(trained.peak_gb, 2),
        "peak_evaluate_gb": round(evaluated.peak_gb, 2),
        "where": where(),
    }))  # fmt: skip


def row(out: Path) -> dict:
    """What was trained and how well it does on the test images."""
    blocks = [json.loads(path.read_text()) for path in sorted(out.glob("blocks/*/latest.json"))]
    metrics = json.loads((out / "report" / "metrics.json").read_text())
    batch = json.loads((out / "config.json").read_text())["dataset"]["batch_size"]
    return {
        "scene": out.name,
        "blocks": len(blocks),
        "test_images": len(metrics["images"]),
        "train_s_per_block": [round(block["spent_s"]) for block in blocks],
        "rays_per_s": [round(block["step"] * batch / block["spent_s"]) for block in blocks],
        "psnr": round(metrics["composited"]["psnr"], 2),
        "ssim": round(metrics["composited"]["ssim"], 3),
        "psnr_nearest": round(metrics["nearest"]["psnr"], 2),
    }


if __name__ == "__main__":
    main()
