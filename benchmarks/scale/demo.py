"""Times every command of `make demo`, one after the other: the row NAME of its table.

python -m benchmarks.scale.demo [--name NAME]

The folder demo/ must not exist yet, so that every command has all of its work to do.
"""

import argparse
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from benchmarks.measure import Measured, run
from benchmarks.quality.capture import learned, row
from benchmarks.report import report
from benchmarks.results import ROOT, Cell, measured

DEMO = ROOT / "demo"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", default="make demo")
    arguments = parser.parse_args()
    if DEMO.exists():
        sys.exit(f"{DEMO} exists, so the demo would only resume it. Move it away, or run `make clean`.")
    steps = {command[1]: run(command) for command in commands()}
    figures = row(DEMO / "city")
    name = f"{arguments.name}, {figures['blocks']} blocks"
    report("scale/demo", {name: {**learned(figures), **times(steps)}}, details={name: figures})


def commands() -> list[list[str]]:
    """Those of blocknerf that `make demo` runs."""
    recipe = subprocess.run(["make", "--dry-run", "demo"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    lines = recipe.replace("\\\n", " ").splitlines()
    return [shlex.split(line) for line in lines if Path(line.partition(" ")[0]).name == "blocknerf"]


def times(steps: Mapping[str, Measured]) -> dict[str, Cell]:
    """Seconds of each command and of all; training includes the alignment of its blocks."""
    heads = {"synth": "street", "train": "training and alignment", "render": "film", "evaluate": "evaluation"}
    cells: dict[str, Cell] = {head: measured(steps[step].seconds, "s", ",.0f") for step, head in heads.items()}
    share = steps["evaluate"].seconds / steps["train"].seconds
    total_s = sum(step.seconds for step in steps.values())
    return {"all": measured(total_s, "s", ",.0f"), **cells, "evaluation to training": measured(share, format=".0%")}


if __name__ == "__main__":
    main()
