"""Plans an invented city of the paper's size, writes, reads and draws the plan, and measures time and memory.

python -m benchmarks.scale.planning OUT [--cameras 2800000] [--blocks 35] [--most-s 60] [--most-gb 4]

Rigs of twelve cameras drive along all lanes of streets on a square grid. Nothing is on disk, and cameras have no sparse
points, so each is assigned by its frustum.
"""

import argparse
import math
import resource
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.report import report
from blocknerf.blocks.cost import estimates
from blocknerf.blocks.map import draw_map
from blocknerf.blocks.plan import read_plan, write_plan
from blocknerf.blocks.planner import make_plan
from blocknerf.core.camera import Camera
from blocknerf.core.config.block_manager import BlockManagerConfig
from blocknerf.core.config.config import Config
from blocknerf.scene.scene import ImageRecord, Scene

RIG = 12
STREET_M = 25.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--cameras", type=int, default=2_800_000)
    parser.add_argument("--blocks", type=int, default=35)
    parser.add_argument("--most-s", type=float, default=60)
    parser.add_argument("--most-gb", type=float, default=4)
    arguments = parser.parse_args()

    scene, block_size_m = city(arguments.cameras, arguments.blocks)
    scene_gb = peak_gb()
    settings = BlockManagerConfig(block_size=block_size_m, max_blocks=10 * arguments.blocks)
    config = Config(block_manager=settings)
    seconds, begin_cpu_s = {}, time.process_time()

    def timed(name, work):
        begin = time.perf_counter()
        result = work()
        seconds[name] = round(time.perf_counter() - begin, 2)
        return result

    plan = timed("plan_s", lambda: make_plan(scene, config))
    timed("write_s", lambda: write_plan(arguments.out / "plan.json", plan))
    timed("map_s", lambda: draw_map(arguments.out / "map.png", plan, scene))
    timed("cost_s", lambda: estimates(plan.blocks, scene, config))
    again = timed("read_s", lambda: read_plan(arguments.out / "plan.json"))
    images = sum(len(block.train_images) for block in plan.blocks)
    name = f"{len(scene.images):,} cameras, {len(plan.blocks):,} blocks: plan and map"
    all_s, all_cpu_s = sum(seconds.values()), time.process_time() - begin_cpu_s
    text = f"{all_s:.1f} s ({all_cpu_s:.1f} s of processor time), {peak_gb():.2f} GB, {scene_gb:.2f} of them the scene"
    details = {
        "images_per_block": round(images / len(plan.blocks)),
        **seconds,
        "plan_mb": round((arguments.out / "plan.json").stat().st_size / 1e6, 1),
    }
    cells = {"asked": f"{arguments.most_s:g} s, {arguments.most_gb:g} GB", "measured": f"{text}; one run"}
    report("scale/planning", {name: cells}, details={name: details})
    if again != plan:
        sys.exit("the plan that was read is not the one that was written")
    if sum(seconds.values()) > arguments.most_s or peak_gb() > arguments.most_gb:
        sys.exit(f"more than {arguments.most_s:g} s or {arguments.most_gb:g} GB")


def city(cameras: int, blocks: int) -> tuple[Scene, float]:
    """A square of streets with so many cameras, and the size of cells of which about `blocks` cover it."""
    columns = math.isqrt(blocks)
    rows = blocks / columns
    spots = math.ceil(cameras / RIG)
    streets = max(2 * columns, round((spots / 2) ** 0.5 / 10))
    side_m = streets * STREET_M
    numbers = np.arange(spots)
    street, along = numbers % (2 * streets), numbers // (2 * streets) / max(1, (spots - 1) // (2 * streets))
    across_m = (street // 2 + 0.5) * STREET_M
    is_across = street % 2 == 1
    xy = np.where(is_across[:, None], np.stack([along * side_m, across_m], 1), np.stack([across_m, along * side_m], 1))
    xy[:, 1] *= rows / columns
    poses = _poses(xy, is_across)[:cameras]
    image = Path("image.png")
    names = [f"street_{street[i // RIG]:04d}/camera_{i % RIG:02d}/{i // RIG:08d}.png" for i in range(cameras)]
    images = tuple(
        ImageRecord(f"{i * 0x9E3779B97F4A7C15 % 2**64:016x}", name, image, "rig", pose, drive=name[:11])
        for i, (name, pose) in enumerate(zip(names, poses, strict=True))
    )
    lens = Camera("PINHOLE", 1200, 900, (1000.0, 1000.0, 600.0, 450.0))
    in_order = tuple(sorted(images, key=lambda image: image.name))
    scene = Scene(Path("city"), {"rig": lens}, in_order, np.zeros((0, 3)), np.zeros((0, 3), np.uint8))
    return scene, side_m / columns * 1.001


def _poses(xy: np.ndarray, is_across: np.ndarray) -> np.ndarray:
    """[spots * RIG, 3, 4]: level cameras, 2 m above ground, all round."""
    turn = np.arange(RIG) * (2 * np.pi / RIG) + np.where(is_across, 0.0, np.pi / 2)[:, None]
    forward = np.stack([np.cos(turn), np.sin(turn), np.zeros_like(turn)], -1)
    right = np.stack([np.sin(turn), -np.cos(turn), np.zeros_like(turn)], -1)
    down = np.broadcast_to(np.array([0.0, 0.0, -1.0]), forward.shape)
    centers = np.broadcast_to(np.append(np.zeros(2), 2.0), forward.shape).copy()
    centers[..., :2] = xy[:, None]
    return np.stack([right, down, forward, centers], -1).reshape(-1, 3, 4)


def peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


if __name__ == "__main__":
    main()
