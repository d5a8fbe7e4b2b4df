"""Trains the documents' file on the tiny city as it stands, reduced by training.max_steps alone.

python -m benchmarks.robustness.documents_yaml OUT [--steps 8]

Each block is stopped once in its second stage and resumed by --resume: the first by Ctrl-C, the second by SIGKILL after
its first save, two minutes after its beginning. Measured for each block: the step at which it last entered each stage,
where it resumed, and which terms of the loss were logged.
"""

import argparse
import json
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.measure import blocknerf, run
from benchmarks.report import report
from benchmarks.results import Cell

CONFIG = Path(__file__).parents[2] / "configs" / "block_nerf_config.yaml"
ENDED_BY = {"000": "Ctrl-C", "001": "SIGKILL"}
STAGE = r"Block (\w+), step (\d+): stage '(\w+)', images of up to (\d+) pixels"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=8)
    arguments = parser.parse_args()
    shutil.rmtree(arguments.out, ignore_errors=True)
    found = trained(arguments.out, arguments.steps)
    rows = {f"block {name}, ended by {ENDED_BY[name]}": in_words(block) for name, block in found["blocks"].items()}
    report("robustness/documents_yaml", rows)


def in_words(block: dict[str, Any]) -> dict[str, Cell]:
    resumed = block["went_on"]
    return {
        "stages entered": ", ".join(f"{name} at step {at['step']}" for name, at in block["stages"].items()),
        "resumes": "was not ended" if resumed is None else f"at step {resumed['step']}, in `{resumed['stage']}`",
        "terms logged": ", ".join(name.removeprefix("loss/") for name in block["terms"]),
        "finished": f"after {block['steps']} steps" if block["finished"] else "NOT REACHED",
    }


def trained(out: Path, steps: int) -> dict[str, Any]:
    """Trains in OUT/city on OUT/tiny; the row without the machine."""
    run(blocknerf("synth", out / "tiny", "--preset", "tiny"))
    train = blocknerf(
        "train",
        "--config",
        CONFIG,
        "--data-root",
        out / "tiny",
        "--output-dir",
        out / "city",
        "--jobs",
        "1",
        "--resume",
        f"training.max_steps={steps}",
    )
    log, saved = out / "city" / "logs" / "train.log", out / "city" / "checkpoints" / "001" / "checkpoint.json"
    ends = [
        ended(train, lambda: len(stages_of("000", log)) > 1, signal.SIGINT),
        ended(train, lambda: len(stages_of("001", log)) > 1 and saved.is_file(), signal.SIGKILL),
    ]
    run(train)
    blocks = sorted(path.name for path in (out / "city" / "blocks").iterdir() if path.is_dir())
    return {
        "steps": steps,
        "ended_with": ends,
        "blocks": {block: block_report(block, out / "city", log) for block in blocks},
    }


def ended(train: list[str], when: Callable[[], bool], how: signal.Signals) -> int:
    """Runs the command until `when` says so, then ends it so; returns its exit code."""
    print("$", " ".join(train), f"# until {how.name}", flush=True)
    process = subprocess.Popen(train, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
    while process.poll() is None and not when():
        time.sleep(0.2)
    process.send_signal(how)
    return process.wait()


def stages_of(block: str, log: Path) -> dict[str, dict[str, int]]:
    """By the names of the stages that a block has entered: the step and the size in pixels, of the last time."""
    text = log.read_text() if log.is_file() else ""
    entered = [(step, name, side_px) for of_block, step, name, side_px in re.findall(STAGE, text) if of_block == block]
    return {name: {"step": int(step), "side_px": int(side_px)} for step, name, side_px in entered}


def block_report(block: str, city: Path, log: Path) -> dict[str, Any]:
    rows = [json.loads(line) for line in (city / "blocks" / block / "metrics.jsonl").read_text().splitlines()]
    latest = json.loads((city / "blocks" / block / "latest.json").read_text())
    return {
        "stages": stages_of(block, log),
        "went_on": went_on(block, log.read_text()),
        "terms": sorted({name for row in rows for name in row if name.startswith("loss/")}),
        "finished": latest["finished"],
        "steps": latest["step"],
    }


def went_on(block: str, text: str) -> dict[str, Any] | None:
    """The step and the stage in which a block resumed; None if it began anew."""
    found = re.search(rf"Block {block} resumes at step (\d+)", text)
    if found is None:
        return None
    entered = [name for of_block, _, name, _ in re.findall(STAGE, text[: found.start()]) if of_block == block]
    return {"step": int(found[1]), "stage": entered[-1]}


if __name__ == "__main__":
    main()
