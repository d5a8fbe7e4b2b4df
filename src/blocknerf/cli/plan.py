"""`blocknerf plan`: blocks, map and cost before anything is trained."""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from blocknerf.blocks.plan import Plan
from blocknerf.cli.minutes import Settings, begin_budget, kept_choice, read_settings
from blocknerf.cli.overrides import Overrides
from blocknerf.cli.place import Place
from blocknerf.core.config.config import Config
from blocknerf.core.errors import UserError
from blocknerf.core.logging import console, log
from blocknerf.core.shared_folder import SharedFolder
from blocknerf.scene.scene import Scene

if TYPE_CHECKING:
    from blocknerf.blocks.cost import BlockCost
    from blocknerf.training.run.budget import RunBudget

LONG_MINUTES = 24 * 60.0
MOST_ROWS = 100


def plan(
    data_root: Place,
    output_dir: Place = "outputs",
    config: Path | None = None,
    overrides: Overrides = (),
    minutes: float | None = None,
) -> None:
    """Cuts a scene into blocks and estimates what each will take, before anything is trained.

    Writes plan.json, map.png and config.json into the output folder; `blocknerf train` uses them. Until something is
    trained there, planning again with other values replaces the plan.

    For example:
      # What half an hour would be spent on
      $ blocknerf plan --data-root my_street --output-dir out --config configs/street.yaml --minutes 30
      # A street in smaller blocks
      $ blocknerf plan --data-root my_street --output-dir out --config configs/street.yaml block_manager.block_size=25
      # Photographs at half their size
      $ blocknerf plan --data-root my_street --output-dir out dataset.image_downsample=2

    Args:
        data_root: Folder or URL of the scene: a COLMAP model or transforms.json with its images.
        output_dir: Folder or URL of the run; created if it does not exist.
        config: YAML or JSON file. By default, all keys have their defaults.
        overrides: Single values, as section.key=value.
        minutes: Says what `blocknerf train --minutes` would choose, and what with twice the time.
    """
    began_s = time.monotonic()
    from blocknerf.blocks.output import PLAN_FILES, plan_scene, pull_plan  # late: it brings the readers along
    from blocknerf.training.block.pose_setup import about_poses

    folder = SharedFolder.at(output_dir)
    pull_plan(folder)
    chosen = read_settings(config, overrides, folder.local, False, minutes)
    settle = kept_choice(chosen) if minutes is None else _budget(minutes, began_s, chosen, folder.local).settle
    settings, scene, planned = plan_scene(chosen.config, data_root, folder.local, settle)
    folder.push(*PLAN_FILES)
    print_plan(planned, scene, settings)
    for sentence in about_poses(settings, planned, scene):
        log.info("%s", sentence)
    log.info(f"The plan is in {folder.place}/plan.json, the map in {folder.place}/map.png.")


def _budget(minutes: float, began_s: float, settings: Settings, output_dir: Path) -> "RunBudget":
    """Raises UserError if something was learned in the folder already: only `train` knows what is left to do."""
    from blocknerf.blocks.output import is_settled
    from blocknerf.core.config.backbone import first_backbone
    from blocknerf.kernels.jit.precompile import start_compiling
    from blocknerf.runtime.cores import available_cores
    from blocknerf.runtime.devices import AUTO, devices_of

    if is_settled(output_dir):
        raise UserError(
            f"Blocks of {output_dir} have been trained, so --minutes {minutes:g} has nothing to choose. Give another "
            "--output-dir, or `blocknerf train --resume --minutes` to train the rest."
        )
    start_compiling(first_backbone().kernels, available_cores())
    return begin_budget(minutes, began_s, settings, output_dir, devices_of(AUTO))


def print_plan(planned: Plan, scene: Scene, settings: Config) -> None:
    """Prints the table of costs of what will be trained. Warns if that will take days."""
    from blocknerf.blocks.cost import estimates
    from blocknerf.training.block.stages import say_stages_above

    say_stages_above(settings, scene)
    costs = estimates(planned.blocks, scene, settings)
    console.print(cost_table(planned, scene, settings, costs))
    minutes = sum(cost.minutes for cost in costs)
    if minutes > LONG_MINUTES:
        faster = f"{settings.block_nerf.faster}, " if settings.block_nerf.faster else ""
        log.warning(
            "Training will take about %s on this machine; %s--minutes is for a run of a given time.",
            duration(minutes),
            faster,
        )


def cost_table(planned: Plan, scene: Scene, settings: Config, costs: "list[BlockCost]") -> Table:
    """A row per block (at most MOST_ROWS, those that take longest) and one for all: images, memory, time, disk,
    neighbours."""
    from blocknerf.blocks.cost import store_bytes

    longest = sorted(range(len(costs)), key=lambda row: -costs[row].minutes)[:MOST_ROWS]
    title = "1 block, and what it" if len(costs) == 1 else f"{len(costs)} blocks, and what each"
    table = Table(title=f"{title} will take", title_justify="left", box=box.SIMPLE, caption_justify="left")
    table.add_column("block")
    for name in ("train", "test", "Mpixels", "GB memory", "time", "MB disk"):
        table.add_column(name, justify="right")
    table.add_column("neighbours")
    for block, cost in ((planned.blocks[row], costs[row]) for row in sorted(longest)):
        table.add_row(
            block.id,
            str(cost.images),
            str(len(block.test_images)),
            f"{cost.pixels / 1e6:.1f}",
            f"{cost.memory_gb:.1f}",
            duration(cost.minutes),
            f"{cost.bytes_on_disk / 1e6:.0f}",
            _a_few(block.neighbours),
        )
    if len(costs) > MOST_ROWS:
        table.add_row("...", *[""] * 6, f"{len(costs) - MOST_ROWS} blocks that take less are in plan.json")
    table.add_section()
    table.add_row(
        "all",
        str(_distinct(block.train_images for block in planned.blocks)),
        str(_distinct(block.test_images for block in planned.blocks)),
        f"{sum(c.pixels for c in costs) / 1e6:.1f}",
        f"{max(c.memory_gb for c in costs):.1f}",
        duration(sum(c.minutes for c in costs)),
        f"{sum(c.bytes_on_disk for c in costs) / 1e6:.0f}",
        "",
    )
    table.caption = (
        "Memory (one block at a time), time and disk are estimates.\n"
        f"The pixel store takes {store_bytes(scene, settings) / 1e6:.0f} MB of disk more, once for all blocks."
    )
    return table


def duration(minutes: float) -> str:
    """Minutes up to three hours, hours up to three days, days beyond."""
    if minutes < 180:
        return f"{minutes:.1f} min"
    return f"{minutes / 60:.1f} h" if minutes < 72 * 60 else f"{minutes / 1440:,.0f} days"


def _a_few(ids: tuple[str, ...]) -> str:
    return " ".join(ids) if len(ids) <= 3 else f"{ids[0]} {ids[1]} +{len(ids) - 2}"


def _distinct(lists: Iterable[tuple[str, ...]]) -> int:
    return len({image for images in lists for image in images})
