"""`blocknerf align`: one appearance across blocks that were trained apart."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro
from rich import box
from rich.table import Table

from blocknerf.cli.place import Device, Place
from blocknerf.core.lock import locked_file
from blocknerf.core.logging import console, log


def align(
    out: tyro.conf.Positional[Path],
    root: Annotated[str | None, tyro.conf.arg(metavar="ID")] = None,
    data_root: Place | None = None,
    device: Device = "auto",
) -> None:
    """Matches the appearance of neighbouring blocks: codes move until their pictures agree where they overlap.

    The appearance of each drive spreads from one block to its neighbours, and on to theirs. Weights do not change. The
    result is alignment.json; deleting that file undoes it.

    Example: blocknerf align out --root 003

    Args:
        out: Output folder of `blocknerf train`.
        root: Block whose appearance the others adopt, for all drives that it saw. By default, for each drive the block
            that trained on most of its images.
        data_root: Location of the scene, if it has moved since training. Only its cameras are used, not its pictures.
        device: Where blocks are rendered: auto (a CUDA device if there is one), cpu, cuda or cuda:N.
    """
    from blocknerf.blocks.output import load_output, open_scene
    from blocknerf.city.alignment.file import write_alignment
    from blocknerf.city.alignment.fitting import align_city
    from blocknerf.city.city import City
    from blocknerf.runtime.cores import available_cores
    from blocknerf.runtime.threads import use_threads

    config, plan = load_output(out)
    scene = open_scene(out, config.dataset, data_root)
    use_threads(available_cores())
    with _aligning(out), console.status("Aligning blocks"):
        city = City.open(out, device=device)
        alignment, differences = align_city(city, plan.links, scene, config.training.seed, root)
        path = write_alignment(out, alignment)
    _print_differences(differences)
    console.print(f"Alignment: {path}", soft_wrap=True, highlight=False, markup=False)


def align_updated(out: Path, scene, plan, config, block_ids: Sequence[str], device: str) -> None:
    """Aligns blocks that were just updated with their neighbours, if there is anything to align."""
    from blocknerf.city.alignment.file import write_alignment
    from blocknerf.city.alignment.fitting import align_blocks
    from blocknerf.city.city import City

    with _aligning(out, wait_s=math.inf):
        city = City.open(out, device=device)
        if len(city.ids) < 2 or not config.training.use_appearance_embedding:
            log.info("There is nothing to align: one block, or blocks without appearance codes.")
            return
        with console.status("Aligning blocks"):
            alignment, differences = align_blocks(city, plan.links, scene, config.training.seed, block_ids)
        write_alignment(out, alignment)
    _print_differences(differences)


def align_trained(out: Path, scene, plan, config, block_ids: Sequence[str], device: str) -> None:
    """Aligns a city of several drives when its last block has been trained (Block-NeRF, section 4.3.3).

    `block_ids` are those that were trained just now. If the city was aligned before, only these are aligned again.
    Nothing happens before all blocks of the plan are finished.
    """
    from blocknerf.city.alignment.file import ALIGNMENT_FILE, Alignment, write_alignment
    from blocknerf.city.alignment.fitting import align_city
    from blocknerf.city.city import City

    is_aligned = (out / ALIGNMENT_FILE).is_file()
    if len(plan.blocks) < 2 or not config.training.use_appearance_embedding or (is_aligned and not block_ids):
        return
    city = City.open(out, device=device)
    if len(city.drives) < 2 or not all(city.is_finished(block.id) for block in plan.blocks):
        return
    if is_aligned:
        align_updated(out, scene, plan, config, block_ids, device)
        return
    log.info("Aligning blocks, because there are several drives (--no-align skips this).")
    with _aligning(out, wait_s=math.inf), console.status("Aligning blocks"):
        alignment, differences = align_city(city, plan.links, scene, config.training.seed)
        is_better = sum(pair.mean_after for pair in differences) < sum(pair.mean_before for pair in differences)
        write_alignment(out, alignment if is_better else Alignment())
    _print_differences(differences)
    if differences and not is_better:
        log.info("Blocks stay unaligned: alignment did not make them agree better.")


def _aligning(out: Path, wait_s: float = 0.0):
    from blocknerf.city.alignment.file import ALIGNMENT_FILE

    return locked_file(out / ALIGNMENT_FILE, f"The blocks of {out} are being aligned", wait_s)


def _print_differences(differences: Sequence) -> None:
    """One row per pair of neighbours and drive, in 8-bit levels."""
    if not differences:
        log.info("There was nothing to align: no two neighbours both see a place well enough.")
        return
    table = Table(title="Difference of neighbours in their overlap, 8-bit levels", title_justify="left", box=box.SIMPLE)
    for name in ("blocks", "look of"):
        table.add_column(name)
    for name in ("mean colour before", "after", "each pixel before", "after"):
        table.add_column(name, justify="right")
    for pair in differences:
        figures = (pair.mean_before, pair.mean_after, pair.before, pair.after)
        table.add_row(" - ".join(pair.blocks), pair.drive, *(f"{255 * figure:.1f}" for figure in figures))
    console.print(table)
