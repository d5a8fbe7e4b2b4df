"""Trains and evaluates one capture through the command line: the row NAME of the table of its scene.

python -m benchmarks.quality.capture SCENE OUT [--config FILE] [--jobs N] [--name NAME] [section.key=value ...]
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

from benchmarks.measure import blocknerf, run
from benchmarks.report import report
from benchmarks.results import Cell, Figure, measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scene", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--config", type=Path)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--name", help="of the row; default: the name of OUT")
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_intermixed_args()

    config = ["--config", arguments.config] if arguments.config else []
    place = ["--data-root", arguments.scene, "--output-dir", arguments.out, "--jobs", str(arguments.jobs)]
    trained = run(blocknerf("train", *config, *place, *arguments.overrides))
    evaluated = run(blocknerf("evaluate", arguments.out))
    figures = row(arguments.out)
    cells = {
        **learned(figures),
        "wall clock": measured(trained.seconds, "s", ",.0f"),
        "peak memory": measured(trained.peak_gb, "GB"),
    }
    name = arguments.name or arguments.out.name
    details = figures | {"peak_evaluate_gb": round(evaluated.peak_gb, 2)}
    report("quality/capture", {name: cells}, arguments.scene.name, {name: details})


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


def learned(row: dict) -> dict[str, Cell]:
    """How well and how fast, as cells of a table."""
    return {
        "blocks": measured(row["blocks"], format=".0f"),
        "training": f"{row['blocks']} x {max(row['train_s_per_block']) / 60:.3g} min",
        "PSNR": measured(row["psnr"], "dB"),
        "SSIM": measured(row["ssim"], format=".3f"),
        "PSNR of the nearest block": measured(row["psnr_nearest"], "dB"),
        "rays/s": over_blocks(row["rays_per_s"]),
    }


def judged(judge: str, value: float) -> Figure:
    """A mean over test images, of a metric by its name in metrics.json."""
    return measured(value, "dB", ".2f") if judge == "psnr" else measured(value, format=".3f")


def over_blocks(rays_per_s: list[int]) -> Figure:
    """The median block of one run."""
    figure = replace(measured(rays_per_s, format=",.0f"), runs=1)
    return figure if figure.low is None else replace(figure, spread="the slowest to the fastest block")


if __name__ == "__main__":
    main()
