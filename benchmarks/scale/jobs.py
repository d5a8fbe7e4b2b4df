"""Trains the blocks of a scene one after the other with all cores, and several at the same time with a share each.

python -m benchmarks.scale.jobs SCENE OUT [--jobs 1,2] [--steps 2000] [--repeats 3] [section.key=value ...]

Every run is a whole command: `wall` is the rays of all blocks divided by the time of the command, for which a user
waits; `training` is the sum of the rates of blocks, without start, validation and files. The store is decoded once,
before.
"""

import argparse
import json
import shutil
import statistics
from pathlib import Path

from benchmarks.measure import blocknerf, run
from benchmarks.report import report
from benchmarks.results import measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scene", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--jobs", default="1,2")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_intermixed_args()

    common = ["training.num_epochs=1000", "validation.num_val_images=0", *arguments.overrides]
    options = ["--data-root", arguments.scene, "--output-dir", arguments.out, "--overwrite"]
    shutil.rmtree(arguments.out, ignore_errors=True)
    run(blocknerf("train", *options, *common, "training.max_steps=2"))
    numbers = [int(text) for text in arguments.jobs.split(",")]
    wall: dict[int, list[float]] = {jobs: [] for jobs in numbers}
    training: dict[int, list[float]] = {jobs: [] for jobs in numbers}
    blocks = 0
    for _ in range(arguments.repeats):
        for jobs in numbers:
            taken = run(
                blocknerf("train", *options, "--jobs", str(jobs), *common, f"training.max_steps={arguments.steps}")
            )
            rates, blocks = block_rates(arguments.out)
            rays = arguments.steps * batch_size(arguments.out) * blocks
            wall[jobs].append(rays / taken.seconds)
            training[jobs].append(min(jobs, blocks) * statistics.mean(rates))
    medians = {jobs: statistics.median(rates) for jobs, rates in wall.items()}
    ratios = {jobs: median / medians[numbers[0]] for jobs, median in medians.items()}
    cells = {
        f"{jobs} job{'s' * (jobs > 1)}": {
            "while blocks train": measured(training[jobs], "rays/s", ",.0f"),
            "with start and end": measured(wall[jobs], "rays/s", ",.0f"),
            "to the first": measured(ratios[jobs], format=".3f", runs=arguments.repeats),
        }
        for jobs in numbers
    }
    most = numbers[-1]
    gains = [statistics.median(of[most]) / statistics.median(of[numbers[0]]) for of in (training, wall)]
    name = f"blocks in parallel, {most} jobs against {numbers[0]}, {arguments.repeats} rounds"
    text = f"{gains[0]:.2f} times as many rays/s while blocks train, {gains[1]:.2f} with start and end of "
    text += f"{arguments.steps} steps"
    report("scale/jobs", {name: {"asked": "the faster is the default", "measured": text}}, "summary")
    report("scale/jobs", cells, details=dict.fromkeys(cells, {"blocks": blocks, "steps": arguments.steps}))


def block_rates(out: Path) -> tuple[list[float], int]:
    """Rays per second of each block's training, and how many blocks there are."""
    found = [json.loads(path.read_text()) for path in sorted(out.glob("blocks/*/latest.json"))]
    return [block["step"] * batch_size(out) / block["spent_s"] for block in found], len(found)


def batch_size(out: Path) -> int:
    return json.loads((out / "config.json").read_text())["dataset"]["batch_size"]


if __name__ == "__main__":
    main()
