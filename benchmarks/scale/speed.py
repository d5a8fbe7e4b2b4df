"""Waiting times: for the import, the first step, 20 dB, and a whole picture.

python -m benchmarks.scale.speed SCENE OUT [--config FILE] [--minutes 0.05,0.1,1,4] [--repeats 9]
    [section.key=value ...]

Trains one block for each of the times, one after the other, and evaluates its test images. A picture is the first test
image, rendered from the last of them. The first step is timed in `blocknerf train` with training.max_steps=1, on
photographs that are already decoded, with an empty cache of kernels and with a filled one: from the start of the
process to the end of the step, and to the end of the command, when everything is written.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.measure import blocknerf, run
from benchmarks.quality.capture import row
from benchmarks.report import report
from benchmarks.results import Cell, measured
from blocknerf.blocks.output import plan_scene
from blocknerf.city.city import City
from blocknerf.core.config.load import load_config
from blocknerf.runtime.cores import available_cores
from blocknerf.runtime.threads import use_threads
from blocknerf.scene.store import ImageStore

ASKED = {"1": "26 dB", "4": "28 dB"}
"""After so many minutes, of the fox."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scene", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--config", type=Path)
    parser.add_argument("--minutes", default="0.05,0.1,1,4")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_intermixed_args()
    settings = ["block_manager.max_blocks=1", "training.num_epochs=1000", *arguments.overrides]

    imported = [seconds([sys.executable, "-c", "import blocknerf"]) for _ in range(5)]
    rows: dict[str, dict[str, Cell]] = {
        "`import blocknerf`": {"asked": "0.3 s", "measured": measured(imported, "s", ".3f")}
    }
    details = {}
    for minutes in arguments.minutes.split(","):
        out = arguments.out / f"{minutes}_min"
        trained = run(train(arguments, out, [*settings, f"training.max_minutes={minutes}"]))
        run(blocknerf("evaluate", out))
        found, name = row(out), f"PSNR after {60 * float(minutes):g} s"
        note = f"{found['rays_per_s'][0]:,} rays/s"
        rows[name] = {"asked": ASKED.get(minutes, ""), "measured": measured(found["psnr"], "dB", ".2f", note)}
        rows["peak memory of training"] = {"asked": "1.5 GB", "measured": measured(trained.peak_gb, "GB")}
        details[name] = found
        print(json.dumps(found), flush=True)
    rows |= first_steps(arguments, settings) | picture(arguments, out, settings)
    report("scale/speed", rows, arguments.scene.name, details)


def train(arguments: argparse.Namespace, out: Path, settings: list[str]) -> list[str]:
    config = ["--config", arguments.config] if arguments.config else []
    return blocknerf("train", *config, "--data-root", arguments.scene, "--output-dir", out, "--overwrite", *settings)


def seconds(command: list[str], **environment: str) -> float:
    begin = time.perf_counter()
    subprocess.run(command, env=os.environ | environment, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


_FIRST_STEP = """
import sys, time
from blocknerf.cli.main import main
from blocknerf.training.block.trainer import BlockNeRFTrainer
step = BlockNeRFTrainer.train_step
def timed(trainer):
    done = step(trainer)
    open(sys.argv[1], "w").write(repr(time.time()))
    return done
BlockNeRFTrainer.train_step = timed
main(sys.argv[2:])
"""


def first_steps(arguments: argparse.Namespace, settings: list[str]) -> dict[str, dict[str, Cell]]:
    command = train(arguments, arguments.out / "first", [*settings, "training.max_steps=1"])
    seconds(command)  # decodes the photographs
    with tempfile.TemporaryDirectory() as folder:
        clock = Path(folder) / "clock"

        def to_first_step(cache: str) -> tuple[float, float]:
            begin = time.time()
            whole = seconds([sys.executable, "-c", _FIRST_STEP, str(clock), *command[3:]], NUMBA_CACHE_DIR=cache)
            return float(clock.read_text()) - begin, whole

        cold = [to_first_step(f"{folder}/{number}") for number in range(2)]
        warm = [to_first_step(f"{folder}/0") for _ in range(5)]
    runs = {"kernels compiled before": (warm, "3 s"), "on an empty cache of kernels": (cold, "10 s")}
    rows: dict[str, dict[str, Cell]] = {}
    for how, (times, asked) in runs.items():
        first, whole = zip(*times, strict=True)
        cell = measured(first, "s", ".1f", f"to the end of the command {statistics.median(whole):.1f} s")
        rows[f"`blocknerf train` with one step, {how}"] = {"asked": asked, "measured": cell}
    return rows


def picture(arguments: argparse.Namespace, out: Path, settings: list[str]) -> dict[str, dict[str, Cell]]:
    config, scene, plan = plan_scene(load_config(arguments.config, settings), arguments.scene, out)
    store = ImageStore.open(scene, config.dataset.image_downsample, out / "store", progress=False)
    city = City.open(out)
    use_threads(available_cores(), city.worker)
    test_image = plan.blocks[0].test_images[0]
    rays, taken = store.rays(test_image), []
    for _ in range(arguments.repeats + 1):
        begin = time.perf_counter()
        city.render(rays, rays.origins[0].double())
        taken.append(time.perf_counter() - begin)
    height, width = store.size(test_image)
    cell = measured(taken[1:], "s", ".3f", f"the first {taken[0]:.2f} s")
    return {f"a picture of {width} x {height} pixels": {"asked": "0.4 s", "measured": cell}}


if __name__ == "__main__":
    main()
