"""`blocknerf merge`: splats of blocks that were trained apart become one city."""

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
    """Joins the Gaussian splats that any trainer made of the blocks of `blocknerf export blocks`.

    Each block gives the splats whose centre lies in its own territory: blocks are cut half-way between neighbours, so
    no place is shown twice. A dataparser_transforms.json of nerfstudio beside a file is undone. Beside the result stand
    a report on what was dropped and on density and colour at every seam, as NAME.seams.json and NAME.seams.html.

    For example:
      # A folder of blocks, each with the splats that a trainer made of it
      $ blocknerf merge my_blocks --out city.ply
      # Splats from elsewhere, and which block they are of
      $ blocknerf merge 000=left.ply 001=right.ply --plan out --out city.spz

    Args:
        sources: The folder of `blocknerf export blocks` with a splat file (.ply, .spz) in each block's folder or beside
            it as BLOCK.ply; or files whose name, or a folder above, is the block's; or BLOCK=FILE.
        merged: The file to write.
        plan: plan.json by which blocks were cut, or its folder; none: that in the folder or above the files.
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
