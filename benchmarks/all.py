"""Every row of docs/results.md and docs/performance.md.

From the demo's city, and the captures in the folder that BLOCKNERF_DATA names.

python -m benchmarks.all [OUT]
"""

import importlib.util
import os
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import blocknerf, run

LONG = "training.num_epochs=1000"  # the clock ends every block
CAPTURES = {
    "fox": ["--config", "configs/object.yaml"],
    "caliterra_aerial": ["--config", "configs/aerial.yaml"],
    "south_building": [
        "--config", "configs/street.yaml", "dataset.image_downsample=4", "block_manager.placement=grid",
        "block_manager.block_size=5", "training.max_minutes=2", LONG,
    ],
    "giza_rooftop": ["dataset.image_downsample=2", "training.max_minutes=2", LONG],
    "castle_p30": ["dataset.image_downsample=4", "training.max_minutes=2", LONG],
}  # fmt: skip


def main() -> None:
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp(prefix="blocknerf_bench_"))
    street = out / "street"
    run(blocknerf("synth", street, "--preset", "street"))
    capture(street, out / "demo", ["--config", "configs/quickstart.yaml"])
    run([sys.executable, "-m", "benchmarks.viewer", str(out / "demo")])
    for name in ("appearance", "exposure", "matching", "ablation"):
        run([sys.executable, "-m", f"benchmarks.{name}", str(out / name)])
    along = ["--config", "configs/quickstart.yaml"]  # blocks along the way: four and eight of them can be had
    run([sys.executable, "-m", "benchmarks.blocks", str(street), str(out / "blocks"), *along])
    run([sys.executable, "-m", "benchmarks.blocks", str(street), str(out / "blocks_1"), "--minutes-each", "1", *along])
    city = out / "city"
    run(blocknerf("synth", city, "--preset", "city"))
    few = ["block_manager.block_size=60", "dataset.image_downsample=2", "training.max_steps=1000", LONG]
    run([sys.executable, "-m", "benchmarks.junctions", str(city), str(out / "junctions"), *few])
    run([sys.executable, "-m", "benchmarks.losses", str(out / "losses"), "--scene", str(street)])
    run([sys.executable, "-m", "benchmarks.seams", str(out / "seams")])
    run([sys.executable, "-m", "benchmarks.distributed", str(street), str(out / "distributed")])
    run([sys.executable, "-m", "benchmarks.formats", str(out / "formats")])
    if importlib.util.find_spec("nerfbaselines") is not None:
        run([sys.executable, "-m", "benchmarks.nerfbaselines", str(out / "nerfbaselines"), "--repeats", "3"])
    run(blocknerf("synth", out / "tiny", "--preset", "tiny"))
    for campaign in (["fuzz", "--minutes", "40"], ["io_faults", "--one"], ["kills"]):
        run([sys.executable, "-m", f"benchmarks.robustness.{campaign[0]}", *campaign[1:]])
    run([sys.executable, "-m", "benchmarks.ray_nodes", str(out / "tiny"), str(out / "ray_nodes")])
    run([sys.executable, "-m", "benchmarks.documents_yaml", str(out / "documents_yaml")])
    hours = [str(out / "appearance" / "scene"), str(out / "poses"), "training.max_steps=6000", LONG]
    for each in ([], ["--by", "image"]):
        run([sys.executable, "-m", "benchmarks.poses", *hours, *each])
    run(blocknerf("synth", out / "passes", "--preset", "passes"))
    passes = [str(out / "passes"), str(out / "segments"), "--by", "segment", "training.max_steps=6000", LONG]
    run([sys.executable, "-m", "benchmarks.poses", *passes])
    for name in ("visibility", "blending"):
        run([sys.executable, "-m", f"benchmarks.{name}", str(street), str(out / "demo"), "--skip-training"])
    run([sys.executable, "-m", "benchmarks.mesh", str(street), str(out / "demo")])
    run([sys.executable, "-m", "benchmarks.kernels"])
    run([sys.executable, "-m", "benchmarks.block_scenes", str(out / "demo"), str(out / "block_scenes")])
    run([sys.executable, "-m", "benchmarks.splats", str(out / "demo"), str(out / "demo_splats")])
    run([sys.executable, "-m", "benchmarks.jobs", str(street), str(out / "jobs")])
    for name in ("planning", "ram_budget", "many_blocks"):
        run([sys.executable, "-m", f"benchmarks.{name}", str(out / name)])
    run([sys.executable, "-m", "benchmarks.planning", str(out / "paper"), "--cameras", "2800000", "--blocks", "35"])
    data = os.environ.get("BLOCKNERF_DATA")
    if data is None:
        print("BLOCKNERF_DATA names no folder of captures: only synthetic cities were measured.")
        return
    for name, options in CAPTURES.items():
        capture(Path(data) / name, out / name, options)
    run([sys.executable, "-m", "benchmarks.splats", str(out / "fox"), str(out / "fox_splats")])
    prepare = [sys.executable, "-m", "benchmarks.prepare", str(out / "prepared")]
    run([*prepare, str(Path(data) / "lund_street"), "--minutes", "5", "--overrides", "block_manager.max_blocks=1"])
    run([*prepare, str(Path(data) / "caliterra_aerial")])
    fox = str(Path(data) / "fox")
    run([sys.executable, "-m", "benchmarks.speed", fox, str(out / "speed"), "--config", "configs/object.yaml"])
    run([sys.executable, "-m", "benchmarks.backbones", fox, str(out / "backbones")])
    run([sys.executable, "-m", "benchmarks.precision", fox, str(out / "precision")])
    small = ["dataset.image_downsample=8", "dataset.batch_size=256"]
    run([sys.executable, "-m", "benchmarks.memory", fox, str(out / "memory"), *small])
    statue = ["--scene", str(Path(data) / "statue_of_liberty"), "dataset.image_downsample=4", "training.max_steps=3000"]
    one_statue = ["block_manager.max_blocks=1", LONG]
    run([sys.executable, "-m", "benchmarks.ablation", str(out / "statue"), *statue, *one_statue])
    one_block = ["--config", "configs/aerial.yaml", "block_manager.max_blocks=1", "training.max_minutes=20"]
    capture(Path(data) / "caliterra_aerial", out / "caliterra_one_block", one_block)


def capture(scene: Path, out: Path, options: list[str]) -> None:
    run([sys.executable, "-m", "benchmarks.capture", str(scene), str(out), *options])


if __name__ == "__main__":
    main()
