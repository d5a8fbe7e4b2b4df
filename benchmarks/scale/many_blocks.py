"""Renders one view of a city of few blocks and of many, then drives through the many.

python -m benchmarks.scale.many_blocks OUT [--few 4] [--many 256] [--size 320x240] [--budget-gb 0.2] [--most 1.1]
    [--repeats 7]

Blocks are copies of one untrained block, on a square lattice 50 m apart. Times are medians, few and many in turn. The
drive looks at every block once, in one process, and must stay within the budget and what one picture needs besides.
"""

import argparse
import shutil
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.report import report
from benchmarks.results import Cell, measured
from blocknerf.blocks.plan import BlockSpec, Plan
from blocknerf.city.city import City
from blocknerf.city.manifest import block_folder, manifest_of, write_manifest
from blocknerf.core.config.city import CityConfig
from blocknerf.core.config.load import load_config
from blocknerf.core.seeds import generator
from blocknerf.core.types import RayBatch
from blocknerf.models.block_file import BlockFile, write_block
from blocknerf.models.block_meta import BlockMeta
from blocknerf.models.block_nerf import BlockNeRF
from blocknerf.runtime.cores import available_cores
from blocknerf.runtime.memory import held_gb
from blocknerf.runtime.threads import use_threads

SPACING_M = 50.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--few", type=int, default=4)
    parser.add_argument("--many", type=int, default=256)
    parser.add_argument("--size", default="320x240")
    parser.add_argument("--budget-gb", type=float, default=0.2)
    parser.add_argument("--most", type=float, default=1.1)
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()

    use_threads(available_cores(), "numba")
    width, height = map(int, arguments.size.split("x"))
    few = make_city(arguments.out / "few", arguments.few, arguments.budget_gb)
    many = make_city(arguments.out / "many", arguments.many, arguments.budget_gb)
    begin = time.perf_counter()
    cities = {"few": City.open(few), "many": City.open(many)}
    open_s = time.perf_counter() - begin
    center = torch.tensor([0.4 * SPACING_M, 0.4 * SPACING_M, 2.0], dtype=torch.float64)
    rays = view(center, width, height)
    seconds = {name: [] for name in cities}
    for _ in range(arguments.repeats + 1):
        for name, city in cities.items():
            begin = time.perf_counter()
            city.render(rays, center)
            seconds[name].append(time.perf_counter() - begin)
    times = {name: statistics.median(taken[1:]) for name, taken in seconds.items()}
    blended = {name: len(city.weights(center)) for name, city in cities.items()}
    before_gb = held_gb()
    held, block_s = drive(cities["many"])
    note = f"{times['few']:.3f} s and {times['many']:.3f} s; blend {blended['few']} and {blended['many']} blocks"
    view_name = f"one view of a city of {arguments.many} blocks against one of {arguments.few}, {arguments.size}"
    city_gb = sum(block.meta.weights.bytes for block in cities["many"].blocks) / 1e9
    drive_name = f"driving through {city_gb:.1f} GB of blocks with `city.memory_budget_gb={arguments.budget_gb:g}`"
    ratios = [many / few for few, many in zip(seconds["few"][1:], seconds["many"][1:], strict=True)]
    cells: dict[str, dict[str, Cell]] = {
        view_name: {"asked": f"{arguments.most:g}", "measured": measured(ratios, "times", ".2f", note)},
        drive_name: {
            "asked": "bounded",
            "measured": measured(max(held), "GB", ".2f", f"{before_gb:.2f} GB before, {block_s:.3f} s a block"),
        },
    }
    report("scale/many_blocks", cells, details={drive_name: {"open_both_s": round(open_s, 2)}})
    if times["many"] > arguments.most * times["few"]:
        sys.exit(f"more than {arguments.most:g} times as long")
    if max(held) > before_gb + arguments.budget_gb:
        sys.exit("more memory than the budget")


def make_city(out: Path, blocks: int, budget_gb: float) -> Path:
    """A city of copies of one block; their files are links to the same weights."""
    shutil.rmtree(out, ignore_errors=True)
    config = load_config(None, ("training.use_visibility_network=false",))
    columns = int(np.ceil(blocks**0.5))
    anchors = [(number % columns * SPACING_M, number // columns * SPACING_M, 2.0) for number in range(blocks)]
    specs = tuple(BlockSpec(f"{n:03d}", anchor, 30.0, anchor, ("image",), ()) for n, anchor in enumerate(anchors))
    settings = config.block_manager.model_copy(update={"blending": "distance"})
    write_manifest(out, manifest_of(Plan("s", "c", specs), settings, CityConfig(memory_budget_gb=budget_gb)))
    first = None
    for spec in specs:
        folder = block_folder(out, spec.id)
        if first is None:
            model = BlockNeRF(config, spec.center_world, spec.radius_m, ("image",), ("0",), generator(0, "bench"))
            meta = BlockMeta(
                block_id=spec.id, scene_hash="s", image_ids=("image",), drives=("0",), model=model.description()
            )
            write_block(folder, "latest", BlockFile(meta, model.state_dict()))
            first = folder
            continue
        folder.mkdir(parents=True)
        for path in first.iterdir():
            (folder / path.name).hardlink_to(path)
    return out


def view(center: torch.Tensor, width: int, height: int) -> RayBatch:
    """A level picture along x, 90 degrees wide."""
    across, down = torch.meshgrid(torch.linspace(-1, 1, width), torch.linspace(-0.75, 0.75, height), indexing="xy")
    directions = torch.nn.functional.normalize(torch.stack([torch.ones_like(across), -across, -down], -1), dim=-1)
    origins = center.float().expand(width * height, 3)
    count = width * height
    return RayBatch(
        origins, directions.reshape(-1, 3), torch.full((count,), -1), torch.full((count,), 2 / width / 12**0.5)
    )


def drive(city: City) -> tuple[list[float], float]:
    """Memory held in each block of the city, in turn, and the median time to bring one in and render 16 rays."""
    held, seconds = [], []
    for block in city.blocks:
        center = torch.tensor(block.anchor_world, dtype=torch.float64) + 1.0
        begin = time.perf_counter()
        city.render(view(center, 4, 4), center)
        seconds.append(time.perf_counter() - begin)
        held.append(held_gb())
    return held, statistics.median(seconds)


if __name__ == "__main__":
    main()
