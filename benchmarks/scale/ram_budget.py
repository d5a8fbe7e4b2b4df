"""Trains a block of many small images within a memory budget and without one: rates and memory.

python -m benchmarks.scale.ram_budget OUT [--images 100000] [--size 64x48] [--budget-gb 0.2] [--steps 400] [--most-gb 2]
    [--repeats 3]

An invented capture: cameras on a grid over coloured ground, photographs as PNG. Runs in turn, each in a separate
process: all images within the budget, all without it, and only as many as fit into it. Resident memory is sampled every
50 ms, anonymous (RssAnon) and with the pages of mapped files (VmRSS).
"""

import argparse
import json
import statistics
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.report import report
from benchmarks.results import Cell, measured

RUNS = ("budget", "free", "small")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--size", default="64x48")
    parser.add_argument("--budget-gb", type=float, default=0.2)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--most-gb", type=float, default=2)
    parser.add_argument("--least-rate", type=float, default=0.9)
    parser.add_argument("--run", choices=RUNS)
    arguments = parser.parse_args()
    if arguments.run:
        train(arguments)
        return
    width, height = map(int, arguments.size.split("x"))
    begin = time.perf_counter()
    capture(arguments.out / "many", arguments.images, width, height)
    capture(arguments.out / "few", int(0.9 * arguments.budget_gb * 1e9 / (3 * width * height)), width, height)
    made_s = time.perf_counter() - begin
    rows = {name: [] for name in RUNS}
    for _ in range(arguments.repeats):
        for name in RUNS:
            command = [sys.executable, "-m", "benchmarks.scale.ram_budget", *sys.argv[1:], "--run", name]
            rows[name].append(
                json.loads(subprocess.run(command, check=True, capture_output=True).stdout.splitlines()[-1])
            )
    rates = {name: statistics.median(row["rays_per_s"] for row in found) for name, found in rows.items()}
    peak_gb = max(row["peak_gb"] for row in rows["budget"])
    names = {
        "budget": f"{arguments.images:,} images, `training.ram_budget_gb={arguments.budget_gb:g}`",
        "free": f"{arguments.images:,} images, no budget",
        "small": "as few images as fit into the budget",
    }
    cells: dict[str, dict[str, Cell]] = {
        names[run]: {
            "rays/s": measured([row["rays_per_s"] for row in found], format=",.0f"),
            "resident memory": measured([row["peak_gb"] for row in found], "GB"),
            "anonymous": measured([row["anonymous_gb"] for row in found], "GB"),
        }
        for run, found in rows.items()
    }
    details = {names[run]: found[0] for run, found in rows.items()}
    details[names["budget"]] |= {
        "pixels_gb": round(arguments.images * width * height * 3 / 1e9, 2),
        "made_s": round(made_s),
    }
    report("scale/ram_budget", cells, details=details)
    to_free, to_small = (rates["budget"] / rates[name] for name in ("free", "small"))
    free_gb = max(row["peak_gb"] for row in rows["free"])
    speed_note = f"{rates['budget']:,} against {rates['free']:,} rays/s"
    summary: dict[str, dict[str, Cell]] = {
        f"{names['budget']}: memory": {
            "asked": f"{arguments.most_gb:g} GB",
            "measured": measured([row["peak_gb"] for row in rows["budget"]], "GB", note=f"{free_gb:.2f} without"),
        },
        "the same: speed against that without a budget": {
            "asked": "10 % lost",
            "measured": measured(to_free - 1, format="+.0%", note=speed_note, runs=arguments.repeats),
        },
        "the same, against a block of as few images as fit into the budget": {
            "measured": measured(to_small - 1, format="+.0%", runs=arguments.repeats),
        },
    }
    report("scale/ram_budget", summary, "summary")
    if peak_gb > arguments.most_gb:
        sys.exit(f"more than {arguments.most_gb:g} GB")
    if rates["budget"] < arguments.least_rate * min(rates["free"], rates["small"]):
        sys.exit(f"slower than {arguments.least_rate:g} of the others")


def capture(out: Path, images: int, width: int, height: int) -> None:
    """Writes `images` photographs and transforms.json; existing files are not changed."""
    if (out / "transforms.json").is_file():
        return
    columns = int(np.ceil(images**0.5))
    ground = np.random.default_rng(0).integers(0, 256, (height * 4, width * 4, 3), np.uint8)

    def shoot(number: int) -> dict:
        x, y = number % columns, number // columns
        name = f"images/{number // 1000:03d}/{number:06d}.png"
        top, left = number * 7 % (3 * height), number * 13 % (3 * width)
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(ground[top : top + height, left : left + width]).save(out / name, compress_level=1)
        pose = [[1, 0, 0, 0.1 * x], [0, 1, 0, 0.1 * y], [0, 0, 1, 1.0], [0, 0, 0, 1]]
        return {"file_path": name, "transform_matrix": pose}

    with ThreadPoolExecutor(2) as pool:
        frames = list(pool.map(shoot, range(images)))
    lens = {"fl_x": width, "fl_y": width, "cx": width / 2, "cy": height / 2, "w": width, "h": height}
    (out / "transforms.json").write_text(json.dumps({**lens, "frames": frames}))


class Watch(threading.Thread):
    """The most that this process holds while it is watched, in GB."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.anonymous_gb = self.peak_gb = 0.0

    def run(self) -> None:
        while True:
            status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
            self.peak_gb = max(self.peak_gb, int(status["VmRSS"].split()[0]) * 1024 / 1e9)
            self.anonymous_gb = max(self.anonymous_gb, int(status["RssAnon"].split()[0]) * 1024 / 1e9)
            time.sleep(0.05)


def train(arguments: argparse.Namespace) -> None:
    """One run from the reading of the scene to its last step, in this process."""
    watch = Watch()
    watch.start()
    from blocknerf.blocks.output import plan_scene
    from blocknerf.core.config.load import load_config
    from blocknerf.runtime.cores import available_cores
    from blocknerf.runtime.threads import use_threads
    from blocknerf.training.run.one_block import make_trainer
    from blocknerf.training.run.run import Run, open_store

    begin = time.perf_counter()
    overrides = ["block_manager.max_blocks=1", "training.num_epochs=1000", "logging.use_tensorboard=false"]
    if arguments.run == "budget":
        overrides.append(f"training.ram_budget_gb={arguments.budget_gb}")
    scene_root = arguments.out / ("few" if arguments.run == "small" else "many")
    out = arguments.out / f"out_{scene_root.name}"
    run = Run(*plan_scene(load_config(None, overrides), scene_root, out), out)
    planned_s = time.perf_counter() - begin
    store = open_store(run, progress=False)
    opened_s = time.perf_counter() - begin
    use_threads(available_cores(), "numba")
    trainer = make_trainer(run, run.plan.blocks[0], store, lambda progress: None)
    for _ in range(20):
        trainer.train_iteration()
    started_s, began_s = time.perf_counter() - begin, trainer.spent_s
    sampled_s = 0.0
    next_batch = trainer.sampler.next

    def timed(central: float):
        nonlocal sampled_s
        begin = time.perf_counter()
        batch = next_batch(central)
        sampled_s += time.perf_counter() - begin
        return batch

    setattr(trainer.sampler, "next", timed)  # noqa: B010
    for _ in range(arguments.steps):
        trainer.train_iteration()
    print(
        json.dumps(
            {
                "rays_per_s": round(arguments.steps * run.config.dataset.batch_size / (trainer.spent_s - began_s)),
                "sampling_share": round(sampled_s / (trainer.spent_s - began_s), 4),
                "peak_gb": round(watch.peak_gb, 2),
                "anonymous_gb": round(watch.anonymous_gb, 2),
                "planned_s": round(planned_s, 1),
                "opened_s": round(opened_s, 1),
                "first_steps_s": round(started_s, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
