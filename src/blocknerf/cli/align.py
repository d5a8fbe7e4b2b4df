"""`blocknerf align`: one look across blocks that were trained apart."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro
from rich import box
from rich.table import Table

from blocknerf.cli.place import Place
from blocknerf.core.lock import locked_file
from blocknerf.core.logging import console, log


def align(
    out: tyro.conf.Positional[Path],
    root: Annotated[str | None, tyro.conf.arg(metavar="ID")] = None,
    data_root: Place | None = None,
) -> None:
    """Makes neighbouring blocks show one look: appearance codes move until their pictures agree where they overlap.

    The look of each drive is carried from one block to its neighbours and on. Weights are not touched; what was found
    lies in alignment.json, and deleting that file undoes it.

    Example: blocknerf align out --root 003

    Args:
        out: Output folder of `blocknerf train`.
        root: Block whose looks the others take, for all drives that it saw; none: for each drive the block that
            learned most of its images.
        data_root: Where the scene lies now, if it has moved since training; its cameras are asked, not its pictures.
    """
    from blocknerf.blocks.output import load_output, open_scene
    from blocknerf.city.alignment import write_alignment
    from blocknerf.city.city import City
    from blocknerf.city.matching import align_city
    from blocknerf.runtime.threads import available_cores, use_threads

    config, plan = load_output(out)
    scene = open_scene(out, config, data_root)
    use_threads(available_cores())
    with _aligning(out), console.status("Aligning blocks"):
        alignment, differences = align_city(City.open(out), plan.links, scene, config.training.seed, root)
        path = write_alignment(out, alignment)
    console.print(differences_table(differences))
    console.print(f"Alignment: {path}", soft_wrap=True, highlight=False, markup=False)


def align_updated(out: Path, scene, plan, config, block_ids: Sequence[str]) -> None:
    """Aligns blocks that were just updated with their neighbours, where there is something to align."""
    from blocknerf.city.alignment import write_alignment
    from blocknerf.city.city import City
    from blocknerf.city.matching import align_blocks

    with _aligning(out, wait_s=math.inf):
        city = City.open(out)
        if len(city.ids) < 2 or not config.training.use_appearance_embedding:
            log.info("There is nothing to align: one block, or blocks without appearance codes.")
            return
        alignment, differences = align_blocks(city, plan.links, scene, config.training.seed, block_ids)
        write_alignment(out, alignment)
    console.print(differences_table(differences))


def _aligning(out: Path, wait_s: float = 0.0):
    return locked_file(out / "alignment.json", f"The blocks of {out} are being aligned", wait_s)


def differences_table(differences: Sequence) -> Table:
    """One row per pair of neighbours and drive, in 8-bit levels."""
    table = Table(title="Difference of neighbours in their overlap, 8-bit levels", title_justify="left", box=box.SIMPLE)
    for name in ("blocks", "look of"):
        table.add_column(name)
    for name in ("mean colour before", "after", "each pixel before", "after"):
        table.add_column(name, justify="right")
    for pair in differences:
        figures = (pair.mean_before, pair.mean_after, pair.before, pair.after)
        table.add_row(" - ".join(pair.blocks), pair.drive, *(f"{255 * figure:.1f}" for figure in figures))
    return table
