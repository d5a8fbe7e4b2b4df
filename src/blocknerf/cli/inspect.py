"""`blocknerf inspect`: what is wrong with a capture and its blocks, and one ray taken apart."""

from pathlib import Path
from typing import Annotated

import tyro
from rich import box
from rich.table import Table

from blocknerf.cli.place import Device, Place
from blocknerf.core.errors import UserError
from blocknerf.core.logging import console

MOST_MOTIONS = 12


def inspect(
    out: tyro.conf.Positional[Path],
    block: Annotated[str | None, tyro.conf.arg(metavar="ID")] = None,
    image: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None,
    pixel: Annotated[tuple[int, int] | None, tyro.conf.arg(metavar="X Y")] = None,
    seam: Annotated[str | None, tyro.conf.arg(metavar="ID,ID")] = None,
    data_root: Place | None = None,
    device: Device = "auto",
) -> None:
    """Looks for faults: data, gradients of every component, one ray, memory of a step, the seam of two blocks.

    Reports how far pose refinement has moved each drive, segment or image.

    Writes OUT/inspect/: a page, its pictures, and the figures as JSON. Trained files do not change.

    Example: blocknerf inspect out --block 003 --image noon/0042.png --pixel 120 80 --seam 003,004

    Args:
        out: Output folder of `blocknerf train`.
        block: The block to inspect. By default the one nearest to the image's camera.
        image: Name of the training or test image from which the ray is taken. By default the first test image.
        pixel: Its pixel, as column and row from the upper left, at the size used in training. By default the middle.
        seam: Two blocks to compare from a camera near both. By default the block and its nearest neighbour.
        data_root: Location of the scene, if it has moved since training.
        device: Where blocks are rendered and the step is taken: auto (a CUDA device if there is one), cpu, cuda or
            cuda:N.
    """
    from blocknerf.blocks.output import load_output
    from blocknerf.diagnostics.inspection import inspect_city
    from blocknerf.runtime.cores import available_cores
    from blocknerf.runtime.threads import use_threads

    pair = _pair(seam)
    config, _ = load_output(out)
    use_threads(available_cores(), config.block_nerf.worker)
    with console.status("Inspecting"):
        inspection = inspect_city(out, data_root, block, image, pixel, pair, device)
    print_inspection(inspection)


def _pair(seam: str | None) -> tuple[str, str] | None:
    if seam is None:
        return None
    names = [name.strip() for name in seam.split(",")]
    if len(names) != 2 or not all(names):
        raise UserError(f"--seam {seam!r} must name two blocks, separated by a comma, as in --seam 000,001.")
    return names[0], names[1]


def print_inspection(inspection) -> None:
    """Tables of gradients and memory, findings, and where the page lies."""
    from blocknerf.diagnostics.findings import worst_first

    console.print(_gradient_table(inspection))
    console.print(_memory_table(inspection))
    if inspection.poses_by is not None and any(motion.has_moved for motion in inspection.pose_motions):
        console.print(_pose_table(inspection))
    elif inspection.poses_by is not None:
        _say(f"Poses are refined by {inspection.poses_by}; all are where they were captured.")
    if inspection.seam is not None:
        figures = inspection.seam.figures()
        _say(
            f"Seam of blocks {inspection.seam.blocks[0]} and {inspection.seam.blocks[1]}: mean colour difference "
            f"{figures['colour_difference']:.3f}, mean relative distance difference "
            f"{figures['relative_distance_difference']:.3f}."
        )
    for finding in worst_first(inspection.findings):
        _say(f"{finding.severity}: {finding.sentence}")
    if not inspection.findings:
        _say("Nothing stands out.")
    _say(f"Inspection: {inspection.page}")


def _gradient_table(inspection) -> Table:
    title = f"Gradients of block {inspection.block_id}, one batch"
    table = Table(title=title, title_justify="left", box=box.SIMPLE)
    table.add_column("component")
    for name in ("norm", "largest entry", "entries reached"):
        table.add_column(name, justify="right")
    for gradient in inspection.gradients:
        reached = f"{100 * gradient.share_moved:.1f} %"
        table.add_row(gradient.component, f"{gradient.norm:.3g}", f"{gradient.largest:.3g}", reached)
    return table


def _memory_table(inspection) -> Table:
    from blocknerf.diagnostics.page import MEBIBYTE

    table = Table(title="Memory of one step, peaks in MiB", title_justify="left", box=box.SIMPLE)
    table.add_column("phase")
    for name in ("resident", "torch, since the step began"):
        table.add_column(name, justify="right")
    for phase in inspection.memory:
        resident = "-" if phase.resident_peak is None else f"{phase.resident_peak / MEBIBYTE:,.0f}"
        table.add_row(phase.phase, resident, f"{phase.torch_peak / MEBIBYTE:,.1f}")
    return table


def _pose_table(inspection) -> Table:
    motions = inspection.pose_motions
    title = f"Poses of block {inspection.block_id}, moved by {inspection.poses_by}"
    table = Table(title=title, title_justify="left", box=box.SIMPLE, caption_justify="left")
    table.add_column(inspection.poses_by)
    for name in ("images", "shift, m", "turn, degrees"):
        table.add_column(name, justify="right")
    for motion in motions[:MOST_MOTIONS]:
        table.add_row(motion.name, str(motion.images), f"{motion.shift_m:.4f}", f"{motion.turn_deg:.3f}")
    if len(motions) > MOST_MOTIONS:
        table.caption = f"{len(motions) - MOST_MOTIONS} that moved less are on the page."
    return table


def _say(line: str) -> None:
    console.print(line, soft_wrap=True, highlight=False, markup=False)
