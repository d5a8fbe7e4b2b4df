"""`blocknerf evaluate`: test images against the city, and a report."""

from typing import Any

import tyro
from rich import box
from rich.table import Table

from blocknerf.cli.place import Device, Place, State
from blocknerf.core.logging import console
from blocknerf.core.shared_folder import SharedFolder


def evaluate(
    out: tyro.conf.Positional[Place],
    data_root: Place | None = None,
    protocols: str | None = None,
    state: State = "latest",
    device: Device = "auto",
) -> None:
    """Renders every test image from the city and from its nearest block alone, and writes a report.

    Writes report/metrics.json, report/index.html and the pictures into the output folder. A test image is rendered with
    the mean appearance of its drive, and with one between those of the images before and after it; none of its pixels
    is used before it is measured. Other protocols are measured when they are named, each with the pixels that it uses.

    For example:
      # What a user sees who has no photograph from there
      $ blocknerf evaluate out
      # Two protocols
      $ blocknerf evaluate out --protocols plain,half_image
      # All of them, which takes several times as long
      $ blocknerf evaluate out --protocols all

    Args:
        out: Output folder of `blocknerf train`. A city on a URL is copied to this machine; the report is written to the
            URL.
        data_root: Location of the scene, if it has moved since training.
        state: Which state of each block is used: latest, best (by validation), or the JSON file of one block's state,
            such as out/blocks/003/step_000500.json, with the latest of all others.
        device: Where blocks are rendered: auto (a CUDA device if there is one), cpu, cuda or cuda:N.
        protocols: Names separated by commas (plain, masked, neighbour, half_image, colour_corrected, learned_poses,
            refined_poses), or all. By default plain, masked if a mask hides anything, and neighbour if images have
            codes and an order. docs/evaluation.md says what each means.
    """
    from blocknerf.blocks.output import load_output, pull_city
    from blocknerf.evaluation.evaluate import evaluate as run_evaluation
    from blocknerf.evaluation.protocols import parse_protocols
    from blocknerf.evaluation.report import not_measured, why_plain_differs
    from blocknerf.runtime.cores import available_cores
    from blocknerf.runtime.threads import use_threads

    chosen = None if protocols is None else parse_protocols(protocols)
    folder = SharedFolder.at(out)
    pull_city(folder, state)
    out = folder.local
    config, _ = load_output(out)
    use_threads(available_cores(), config.block_nerf.worker)
    metrics = run_evaluation(out, data_root, chosen, state, device)
    folder.push("report")
    console.print(figures_table(metrics))
    console.print(protocols_table(metrics))
    places = (f"Report: {out / 'report' / 'index.html'}", f"Figures: {out / 'report' / 'metrics.json'}")
    for line in (*why_plain_differs(metrics), *metrics["without_order"], *not_measured(metrics), *places):
        console.print(line, soft_wrap=True, highlight=False, markup=False)


def figures_table(metrics: dict[str, Any]) -> Table:
    """One row per block that is nearest to a test image, and one for all; the gain is what compositing is worth."""
    title = f"Test images under {metrics['heading']}: the city, and the nearest block alone"
    table = Table(title=title, title_justify="left", box=box.SIMPLE)
    table.add_column("nearest block")
    for name in ("images", "PSNR", "SSIM", "PSNR alone", "SSIM alone", "gain dB"):
        table.add_column(name, justify="right")
    for block_id, block in metrics["blocks"].items():
        if block["images"]:
            table.add_row(block_id, str(block["images"]), *_figures(block))
    table.add_section()
    table.add_row("all", str(len(metrics["images"])), *_figures(metrics), style="bold")
    return table


def protocols_table(metrics: dict[str, Any]) -> Table:
    """One row per protocol, one column per metric; the gain is over the mean code on the pixels that are scored."""
    from blocknerf.evaluation.report import JUDGES, measured_by

    table = Table(title="The city under each protocol", title_justify="left", box=box.SIMPLE)
    table.add_column("protocol")
    table.add_column("sees of a test image")
    judges = measured_by(metrics)
    for name in ("images", *(JUDGES[judge] for judge in judges), "gain dB"):
        table.add_column(name, justify="right")
    for name, entry in metrics["protocols"].items():
        figures = [f"{entry[judge]:.{2 if judge == 'psnr' else 3}f}" if judge in entry else "-" for judge in judges]
        figures.append(f"{entry['gain_db']:+.2f}" if "gain_db" in entry else "-")
        marked = f"{name} (optimistic)" if entry["optimistic"] else name
        table.add_row(f"{marked} v{entry['version']}", entry["sees"], str(entry["images"]), *figures)
    return table


def _figures(entry: dict[str, Any]) -> list[str]:
    composited, nearest = entry["composited"], entry["nearest"]
    return [
        f"{composited['psnr']:.2f}",
        f"{composited['ssim']:.3f}",
        f"{nearest['psnr']:.2f}",
        f"{nearest['ssim']:.3f}",
        f"{composited['psnr'] - nearest['psnr']:+.2f}",
    ]
