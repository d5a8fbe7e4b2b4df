"""`blocknerf evaluate`: test images against the city, and a report."""

from pathlib import Path
from typing import Any

import tyro
from rich import box
from rich.table import Table

from blocknerf.core.logging import console


def evaluate(out: tyro.conf.Positional[Path], data_root: Path | None = None) -> None:
    """Renders every test image from the city and from its nearest block alone, and writes a report.

    Writes report/metrics.json, report/index.html and the pictures into the output folder. A test image gets the mean
    appearance of its drive; none of its pixels is looked at before it is measured.

    Example: blocknerf evaluate out

    Args:
        out: Output folder of `blocknerf train`.
        data_root: Where the scene lies now, if it has moved since training.
    """
    from blocknerf.evaluation.evaluate import evaluate as run_evaluation
    from blocknerf.runtime.threads import available_cores, use_threads

    use_threads(available_cores())
    metrics = run_evaluation(out, data_root)
    console.print(figures_table(metrics))
    for line in (f"Report: {out / 'report' / 'index.html'}", f"Figures: {out / 'report' / 'metrics.json'}"):
        console.print(line, soft_wrap=True, highlight=False, markup=False)


def figures_table(metrics: dict[str, Any]) -> Table:
    """One row per block that is nearest to a test image, and one for all; the gain is what compositing is worth."""
    table = Table(title="Test images: the city, and the nearest block alone", title_justify="left", box=box.SIMPLE)
    table.add_column("nearest block")
    for name in ("images", "PSNR", "SSIM", "PSNR alone", "SSIM alone", "gain dB"):
        table.add_column(name, justify="right")
    for block_id, block in metrics["blocks"].items():
        if block["images"]:
            table.add_row(block_id, str(block["images"]), *_figures(block))
    table.add_section()
    table.add_row("all", str(len(metrics["images"])), *_figures(metrics), style="bold")
    return table


def _figures(entry: dict[str, Any]) -> list[str]:
    composited, nearest = entry["composited"], entry["nearest"]
    return [
        f"{composited['psnr']:.2f}", f"{composited['ssim']:.3f}", f"{nearest['psnr']:.2f}", f"{nearest['ssim']:.3f}",
        f"{composited['psnr'] - nearest['psnr']:+.2f}",
    ]  # fmt: skip
