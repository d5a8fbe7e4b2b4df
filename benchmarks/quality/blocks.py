"""One block or many (Block-NeRF, table 2): blocks of equal size each, and of equal total size.

python -m benchmarks.quality.blocks SCENE OUT [--blocks 1,4,8] [--minutes 8] [--minutes-each 1] [--config FILE]
    [section.key=value ...]

Every row has the same total training minutes, divided evenly among its blocks, or with --minutes-each the same minutes
for every block. All are measured on the same test images with the mean code. `equal each`: every block has the tables
of the configuration. `equal total`: the rows of the hash table and the cells of the proposal grid are divided by the
number of blocks (rows to a power of two), so that the city has about as many weights as one block of the configuration.
"""

import argparse
import json
import math
from pathlib import Path

from benchmarks.measure import blocknerf, run
from benchmarks.quality.capture import judged
from benchmarks.report import report
from benchmarks.results import Cell, measured
from blocknerf.blocks.planner import make_plan
from blocknerf.core.config.config import Config
from blocknerf.core.config.load import load_config
from blocknerf.core.errors import UserError
from blocknerf.evaluation.report import JUDGES
from blocknerf.models.backbones.hash_grid.config import HashConfig
from blocknerf.scene.readers.read import read_scene
from blocknerf.scene.scene import Scene

FINEST_SHRINK = 0.93
"""From one block size that is tried to the next."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scene", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--blocks", default="1,4,8")
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--minutes-each", type=float)
    parser.add_argument("--config", type=Path)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_intermixed_args()

    config, each = load_config(arguments.config, arguments.overrides), arguments.minutes_each
    scene = read_scene(arguments.scene, config.dataset)
    tables: dict[str, list[dict]] = {"equal each": [], "equal total": []}
    for number in map(int, arguments.blocks.split(",")):
        size_m = size_for(number, scene, config, arguments)
        for kind, rows in tables.items():
            if kind == "equal total" and number == 1:
                rows.append(tables["equal each"][0])
                continue
            sizes = smaller(config, number) if kind == "equal total" else []
            minutes = arguments.minutes / number if each is None else each
            budget = [f"training.max_minutes={minutes:g}", "training.num_epochs=1000"]
            out = arguments.out / f"{number}_{kind.replace(' ', '_')}"
            settings = [*arguments.overrides, *placed(number, size_m), *sizes, *budget]
            rows.append({"kind": kind, **row(out, arguments, settings)})
            print(
                json.dumps(
                    {
                        "scene": arguments.scene.name,
                        **rows[-1],
                    }
                ),
                flush=True,
            )
    minutes = f"{arguments.minutes:g} min in all" if each is None else f"{each:g} min each"
    cells = {row_name(row, kind): as_cells(row) for kind, rows in tables.items() for row in rows}
    report("quality/blocks", cells, minutes)


def placed(number: int, size_m: float | None) -> list[str]:
    if size_m is None:
        return ["block_manager.max_blocks=1"]
    return [f"block_manager.block_size={size_m:g}", f"block_manager.max_blocks={number}"]


def size_for(number: int, scene: Scene, config: Config, arguments: argparse.Namespace) -> float | None:
    """The largest block size (metres) that is tried under which the plan has `number` blocks; None for a single one."""
    if number == 1:
        return None
    extent = scene.centers_world.max(0) - scene.centers_world.min(0)
    size_m = float(extent.max())
    for _ in range(60):
        try:
            settings = [*arguments.overrides, *placed(number, size_m)]
            found = len(make_plan(scene, load_config(arguments.config, settings)).blocks)
        except UserError:  # more than max_blocks
            break
        if found == number:
            return float(f"{size_m:.4g}")
        size_m *= FINEST_SHRINK
    raise UserError(
        f"No block size gives {number} blocks on {scene.root}; ask for another number with --blocks, or set "
        "block_manager.placement or block_manager.min_images_per_block."
    )


def smaller(config: Config, number: int) -> list[str]:
    field = config.block_nerf
    if not isinstance(field, HashConfig):
        raise UserError("Blocks are made smaller by the tables of backbone hash; measure that one.")
    grid = field.hash_grid
    return [
        f"block_nerf.hash_grid.log2_table_rows={grid.log2_table_rows - round(math.log2(number))}",
        f"block_nerf.proposal_resolution={round(field.proposal_resolution / number ** (1 / 3))}",
    ]


def row(out: Path, arguments: argparse.Namespace, overrides: list[str]) -> dict:
    config_options = ["--config", arguments.config] if arguments.config else []
    place = ["--data-root", arguments.scene, "--output-dir", out, "--jobs", str(arguments.jobs), "--resume"]
    run(blocknerf("train", *config_options, *place, *overrides))
    run(blocknerf("evaluate", out, "--protocols", "masked"))
    blocks = [json.loads(path.read_text()) for path in sorted(out.glob("blocks/*/latest.json"))]
    weights = [block["weights"]["bytes"] // 4 for block in blocks]
    metrics = json.loads((out / "report" / "metrics.json").read_text())
    entry = metrics["protocols"]["masked"]
    radii_m = [block["model"]["radius_m"] for block in blocks]
    return {
        "blocks": len(blocks),
        "weights_per_block": sum(weights) // len(weights),
        "weights": sum(weights),
        "size_m": round(2 * sum(radii_m) / len(radii_m), 1),
        "minutes": round(sum(block["spent_s"] for block in blocks) / 60, 2),
        **{judge: round(entry[judge], 4) for judge in JUDGES if judge in entry},
    }


def row_name(row: dict, kind: str) -> str:
    return "one block" if row["blocks"] == 1 else f"{row['blocks']} blocks, {kind}"


def as_cells(row: dict) -> dict[str, Cell]:
    return {
        "weights per block": measured(row["weights_per_block"] / 1e6, "million"),
        "weights in all": measured(row["weights"] / 1e6, "million", ".1f"),
        "size": measured(row["size_m"], "m", ".0f"),
        "minutes in all": measured(row["minutes"], format=".1f"),
        **{JUDGES[judge]: judged(judge, row[judge]) for judge in JUDGES if judge in row},
    }


if __name__ == "__main__":
    main()
