"""Measures every row of docs/results.md and docs/performance.md that has a command, and updates the tables.

Uses synthetic cities, and the captures in the folder BLOCKNERF_DATA.

python -m benchmarks.all [OUT]
"""

import argparse
import importlib.util
import os
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import blocknerf, run

LONG = "training.num_epochs=1000"  # the clock ends every block
SHORT = ["training.max_minutes=2", LONG]
HALF_SIZE = "dataset.image_downsample=2"
ROWS = "block_nerf.hash_grid.log2_table_rows"
FOX = ["dataset.image_downsample=8", "dataset.batch_size=2048", f"{ROWS}=16"]
"""Sizes that a budget (`--minutes`) would choose by the speed of a machine: figures of machines are to be compared."""
FOX_CONFIG = ["--config", "configs/object.yaml", *FOX]
AERIAL = ["--config", "configs/aerial.yaml", "dataset.image_downsample=4", f"{ROWS}=14", LONG]
SOUTH_BUILDING = ["--config", "configs/street.yaml", "block_manager.placement=grid", "block_manager.block_size=5"]
CAPTURES = {
    "fox": {"blocknerf": [*FOX_CONFIG, "training.max_minutes=4", LONG]},
    "caliterra_aerial": {
        "caliterra aerial, 1/4, `aerial.yaml`": [*AERIAL, "training.max_minutes=5"],
        "caliterra aerial, 1/4, `aerial.yaml` with `max_blocks=1`": [
            *AERIAL,
            "block_manager.max_blocks=1",
            "training.max_minutes=20",
        ],
    },
    "south_building": {"south building, 1/4": [*SOUTH_BUILDING, "dataset.image_downsample=4", *SHORT]},
    "giza_rooftop": {"giza rooftop, 1/2": [HALF_SIZE, *SHORT]},
    "castle_p30": {"castle P30, 1/4": ["dataset.image_downsample=4", *SHORT]},
}
"""Rows by the folder of a capture: their names, and the arguments of `train` for each."""


PARTS_OF_THE_FIELD = {
    "caliterra_aerial": AERIAL,
    "south_building": ["--config", "configs/object.yaml", HALF_SIZE, "dataset.batch_size=2048", f"{ROWS}=18"],
}
"""Arguments of `train` by the folder of a capture."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, nargs="?")
    out = parser.parse_args().out or Path(tempfile.mkdtemp(prefix="blocknerf_bench_"))
    synthetic_cities(out)
    benchmark("kernels.step")
    data = os.environ.get("BLOCKNERF_DATA")
    if data is None:
        print("BLOCKNERF_DATA names no folder of captures: only synthetic cities were measured.")
    else:
        captures(Path(data), out)
    benchmark("tables")


def benchmark(name: str, *arguments: str | Path) -> None:
    run([sys.executable, "-m", f"benchmarks.{name}", *map(str, arguments)])


def synthetic_cities(out: Path) -> None:
    street, small, demo, city, tiny, passes = (
        out / name for name in ("street", "street_small", "demo", "city", "tiny", "passes")
    )
    for scene in (street, small, city, tiny, passes):
        run(blocknerf("synth", scene, "--preset", scene.name))
    benchmark("quality.capture", street, demo, "--config", "configs/quickstart.yaml")
    of_the_demo(street, demo, out)
    for name in ("appearance", "exposure", "matching", "ablation", "seams"):
        benchmark(f"quality.{name}", out / name)
    along = ["--config", "configs/quickstart.yaml"]  # blocks along the way: four and eight of them can be had
    benchmark("quality.blocks", small, out / "blocks", *along)
    benchmark("quality.blocks", small, out / "blocks_1", "--minutes-each", "1", *along)
    few = ["block_manager.block_size=60", HALF_SIZE, "training.max_steps=1000", LONG]
    benchmark("quality.junctions", city, out / "junctions", *few)
    benchmark("quality.losses", out / "losses", "--scene", small)
    benchmark("quality.continuity")
    hours = [out / "appearance" / "scene", out / "poses", "training.max_steps=6000", LONG]
    benchmark("quality.poses", *hours)
    benchmark("quality.poses", *hours, "--by", "image")
    benchmark("quality.poses", passes, out / "segments", "--by", "segment", "training.max_steps=6000", LONG)
    benchmark("interop.formats", out / "formats")
    if importlib.util.find_spec("nerfbaselines") is not None:
        benchmark("interop.nerfbaselines", out / "nerfbaselines", "--repeats", "3")
    benchmark("robustness.fuzz", "--minutes", "40")
    benchmark("robustness.io_faults", "--one")
    benchmark("robustness.kills")
    benchmark("robustness.documents_yaml", out / "documents_yaml")
    benchmark("scale.ray_nodes", tiny, out / "ray_nodes")
    benchmark("scale.distributed", small, out / "distributed")
    benchmark("scale.jobs", small, out / "jobs")
    for name in ("ram_budget", "many_blocks"):
        benchmark(f"scale.{name}", out / name)
    benchmark("scale.planning", out / "planning", "--cameras", "1000000", "--blocks", "5000")
    benchmark("scale.planning", out / "paper", "--cameras", "2800000", "--blocks", "35")


def of_the_demo(street: Path, demo: Path, out: Path) -> None:
    for name in ("visibility", "blending"):
        benchmark(f"quality.{name}", street, demo, "--skip-training")
    benchmark("quality.mesh", street, demo)
    benchmark("quality.splats", demo, out / "demo_splats")
    benchmark("interop.block_scenes", demo, out / "block_scenes")
    benchmark("scale.viewer", demo)


def captures(data: Path, out: Path) -> None:
    for scene, rows in CAPTURES.items():
        for number, (name, options) in enumerate(rows.items()):
            benchmark("quality.capture", data / scene, out / f"{scene}_{number}", "--name", name, *options)
    benchmark("quality.splats", out / "fox_0", out / "fox_splats")
    of_one = ["block_manager.max_blocks=1", HALF_SIZE]
    lund = [data / "lund_street", "--minutes", "5", "--overrides", *of_one]
    benchmark("quality.prepare", out / "prepared", *lund)
    benchmark("quality.prepare", out / "prepared", data / "caliterra_aerial")
    benchmark("quality.lego", data / "lego_400", out / "lego")
    for scene, options in PARTS_OF_THE_FIELD.items():
        benchmark("quality.field", data / scene, out / f"{scene}_field", *options)
    fox = data / "fox"
    benchmark("quality.backbones", fox, out / "backbones", *FOX)
    benchmark("quality.precision", fox, out / "precision", *FOX)
    benchmark("scale.speed", fox, out / "speed", *FOX_CONFIG)
    benchmark("scale.memory", fox, out / "memory", "dataset.image_downsample=8", "dataset.batch_size=256")
    statue = ["--scene", data / "statue_of_liberty", "dataset.image_downsample=4", "training.max_steps=3000"]
    benchmark("quality.ablation", out / "statue", *statue, "block_manager.max_blocks=1", LONG)


if __name__ == "__main__":
    main()
