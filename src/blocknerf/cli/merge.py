"""`blocknerf merge`: joins the splats of separately trained blocks into one city."""

from pathlib import Path
from typing import Annotated, Any

import tyro
from rich import box
from rich.table import Table

from blocknerf.core.lock import locked_file
from blocknerf.core.logging import console


def merge(
    sources: tyro.conf.Positional[Annotated[tuple[str, ...], tyro.conf.arg(metavar="FOLDER|FILE|BLOCK=FILE")]],
    merged: Annotated[Path, tyro.conf.arg(name="out", metavar="CITY.ply|.spz")],
    plan: Path | None = None,
) -> None:
    """Joins Gaussian splats that any trainer made from the blocks of `blocknerf export blocks`.

    Each block contributes the splats whose centre is in its territory. Blocks are cut half-way between neighbours, so
    no place is shown twice. A dataparser_transforms.json of nerfstudio beside a file is undone. NAME.seams.json and
    NAME.seams.html beside the result report what was dropped, and density and colour at every seam.

    For example:
      # A folder of blocks, each with the splats that a trainer made of it
      $ blocknerf merge my_blocks --out city.ply
      # Splat files from anywhere, each with its block
      $ blocknerf merge 000=left.ply 001=right.ply --plan out --out city.spz

    Args:
        sources: The folder of `blocknerf export blocks`, with a splat file (.ply, .spz) in each block's folder, or
            beside it as BLOCK.ply. Or files named after their block, or in a folder named after it. Or BLOCK=FILE.
        merged: The file to write.
        plan: The plan.json of these blocks, or its folder. By default the one in the given folder or above the files.
    """
    from blocknerf.core.errors import UserError
    from blocknerf.export.merge import find_plan, find_splats, merge_splats, require_apart
    from blocknerf.export.merge_seams import seam_report, write_seams
    from blocknerf.export.splats_file import check_splats_name, write_splats
    from blocknerf.export.world_offset import write_world_offset

    if not sources:
        raise UserError("Nothing to merge was named. Give the folder of `blocknerf export blocks`, or splat files.")
    check_splats_name(merged)
    cut = find_plan(sources, plan)
    files = find_splats(sources, cut)
    require_apart(merged, files)
    seams = merged.with_suffix(".seams.json")
    with locked_file(merged, f"{merged} is being written") as held:
        for made in (seams, seams.with_suffix(".html")):
            held.sweep(made.parent, made.name)
        city = merge_splats(files, cut)
        write_splats(merged, city.splats)
        write_world_offset(merged, cut.world_offset_m)
        report = seam_report(city.blocks, city.sides)
        page = write_seams(seams, report)
    for table in _tables(report):
        console.print(table)
    console.print(f"Splats: {merged} ({len(city.splats)})", soft_wrap=True, highlight=False, markup=False)
    console.print(f"Seams: {page}", soft_wrap=True, highlight=False, markup=False)


def _tables(report: dict[str, Any]) -> tuple[Table, Table]:
    blocks = Table("block", "splats", "kept", "dropped", box=box.SIMPLE)
    for block_id, entry in report["blocks"].items():
        blocks.add_row(block_id, *(str(entry[name]) for name in ("splats", "kept", "dropped")))
    seams = Table("seam", "splats on each side", "density ratio", "colour jump", box=box.SIMPLE)
    for seam in report["seams"]:
        numbers = ["-" if seam[name] is None else f"{seam[name]:.3g}" for name in ("density_ratio", "colour_jump")]
        seams.add_row(" | ".join(seam["blocks"]), " | ".join(map(str, seam["splats"])), *numbers)
    return blocks, seams
