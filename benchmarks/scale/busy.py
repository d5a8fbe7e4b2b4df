"""The cost of a busy machine for a training: rays/s alone, and beside a program that never idles.

python -m benchmarks.scale.busy --data SCENE --out OUT [--config FILE] [--seconds 12] [--repeats 3] [--against SRC]
                          [section.key=value ...]

One and two threads, alone and beside one busy program each, in turns, so that a drift of the machine's speed affects
all of them. Targets are ratios of medians: beside the busy program 0.6 of alone, and two threads 1.7 times one.
`--against` names the `src` folder of another checkout, which takes turns too. For a machine of two cores; on a larger
one, use two: taskset -c 0,1 python -m benchmarks.scale.busy ...
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measure import blocknerf
from benchmarks.report import report
from benchmarks.results import Cell, measured
from benchmarks.scale.jobs import block_rates

SOURCES = Path(__file__).parents[2] / "src"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--config", type=Path)
    parser.add_argument("--seconds", type=float, default=12)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--against", type=Path)
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_intermixed_args()

    sources = [SOURCES, *([arguments.against] if arguments.against else [])]
    for source in sources:  # decodes photographs, compiles kernels
        rate(arguments, source, 2, "training.max_steps=2")
    turns = [(source, threads, busy) for source in sources for busy in (False, True) for threads in (2, 1)]
    rates: dict[tuple[Path, int, bool], list[float]] = {turn: [] for turn in turns}
    for _ in range(arguments.repeats):
        for turn in turns:
            source, threads, busy = turn
            with beside_a_busy_program() if busy else contextlib.nullcontext():
                rates[turn].append(rate(arguments, source, threads, f"training.max_minutes={arguments.seconds / 60}"))
            print(json.dumps({**named(turn), "rays_per_s": round(rates[turn][-1])}), flush=True)
    cells: dict[str, dict[str, Cell]] = {}
    summary: dict[str, dict[str, Cell]] = {}
    for source in sources:
        of = "" if source == SOURCES else ", of the other checkout"
        for threads, busy in ((2, False), (1, False), (2, True), (1, True)):
            name = f"{threads} thread{'s' * (threads > 1)}, {'beside a busy process' if busy else 'quiet'}{of}"
            cells[name] = {"rays/s": measured(rates[source, threads, busy], format=",.0f")}
        quiet, busy, one = (statistics.median(rates[source, *turn]) for turn in ((2, False), (2, True), (1, False)))
        ratios = {
            "beside one busy process: rays/s against the quiet machine": (busy / quiet, ">= 0.6"),
            "quiet, two threads against one": (quiet / one, ">= 1.7"),
        }
        for name, (ratio, must) in ratios.items():
            figure = measured(ratio, "times", ".3f", runs=arguments.repeats)
            cells[name + of] = {"ratio": figure}
            if source == SOURCES:
                summary[name] = {"must": must, "reached": figure}
    if arguments.against:
        local_rate, other_rate = (statistics.median(rates[source, 2, False]) for source in sources)
        faster = measured(local_rate / other_rate, "times", ".2f", runs=arguments.repeats)
        summary["quiet, two threads, against the other checkout"] = {"must": "not slower", "reached": faster}
    report("scale/busy", cells)
    report("scale/busy", summary, "trust")


def rate(arguments: argparse.Namespace, source: Path, threads: int, budget: str) -> float:
    """Rays per second of one training."""
    config = ["--config", arguments.config] if arguments.config else []
    settings = ["block_manager.max_blocks=1", "training.num_epochs=1000", "validation.num_val_images=0"]
    out = arguments.out / ("here" if source == SOURCES else "against")
    command = blocknerf("train", *config, "--data-root", arguments.data, "--output-dir", out, "--overwrite")
    environment = os.environ | {"PYTHONPATH": str(source), "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(
        [*command, *settings, *arguments.overrides, budget],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        sys.exit(done.stderr)
    (found,), _ = block_rates(out)
    return found


@contextlib.contextmanager
def beside_a_busy_program() -> Iterator[None]:
    program = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        program.kill()
        program.wait()


def named(turn: tuple[Path, int, bool]) -> dict:
    source, threads, busy = turn
    return {"src": str(source), "threads": threads, "busy": busy}


if __name__ == "__main__":
    main()
