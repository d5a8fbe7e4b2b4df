"""One block, trained undisturbed and again with kills at random moments: is the end the same, byte by byte?

python -m benchmarks.kills SCENE OUT [--kills 30] [--seed 0] [section.key=value ...]

Both runs go through the shell, save about every step, validate and keep states. One is killed with SIGKILL after
random waits, which reach from the first moment of its start into training and its writing, and is started again with
--resume each time. Compared are the tensors of every file that is left and the lines of metrics.jsonl, all but the
figures that depend on the clock. A start that fails ends the benchmark with the end of its log.
"""

import argparse
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from math import inf, sqrt
from pathlib import Path
from typing import NoReturn

import torch

from benchmarks.measure import blocknerf, where
from blocknerf.city.block_file import has_block, read_block, read_block_meta
from blocknerf.training.metrics import CLOCK, FILE

SETTINGS = (
    "block_manager.max_blocks=1", "block_nerf.hash_grid.log2_table_rows=14", "block_nerf.proposal_resolution=64",
    "training.checkpoint_minutes=0.0005", "training.num_epochs=1000", "training.max_steps=800",
    "validation.val_freq=0.1", "validation.save_freq=0.2", "logging.log_freq=1",
)  # fmt: skip
SHARE = 0.5
"""Of the undisturbed run's training that is expected to be done when the last kill comes."""


@dataclass
class Tally:
    """Of the kills so far: where the run was when they came, and what the starts after them found."""

    kills: int = 0
    during_start: int = 0
    during_training: int = 0
    while_writing: int = 0
    went_on: int = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scene", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("overrides", nargs="*")
    told = parser.parse_intermixed_args()
    settings = (*SETTINGS, *told.overrides)
    if told.out.exists():
        sys.exit(f"{told.out} is there already; give a new folder.")

    begin = time.perf_counter()
    train(told.scene, told.out / "compiled", (*settings, "training.max_steps=1"))  # no later start waits for kernels
    start_s, training_s = train(told.scene, told.out / "undisturbed", settings)
    tally = train_with_kills(told, settings, start_s, training_s)
    compared, equal = compare(told.out / "undisturbed" / "blocks" / "000", told.out / "killed" / "blocks" / "000")
    figures = {**vars(tally), "compared": compared, "equal": equal}
    figures |= {"undisturbed_s": round(start_s + training_s), "seconds": round(time.perf_counter() - begin)}
    print(json.dumps({"scene": told.scene.name, **figures, "where": where()}))
    if not equal:
        sys.exit(1)


def longest_wait_s(start_s: float, training_s: float, kills: int) -> float:
    """Waits uniform from 0 to this, of which each trains for what is beyond `start_s`, train `training_s` in all."""
    each_s = 2 * training_s / kills
    beyond_s = (each_s + sqrt(each_s**2 + 4 * each_s * start_s)) / 2  # beyond^2 / (start + beyond) = each
    return start_s + beyond_s


def train(scene: Path, out: Path, settings: tuple[str, ...]) -> tuple[float, float]:
    """Seconds until training began, and of training."""
    begin = time.perf_counter()
    process = start(scene, out, settings)
    start_s = watch(process, out, inf)
    if process.returncode != 0 or start_s is None:
        fail(out, process.returncode)
    return start_s, time.perf_counter() - begin - start_s


def train_with_kills(told: argparse.Namespace, settings: tuple[str, ...], start_s: float, training_s: float) -> Tally:
    """The run that is killed `told.kills` times, from its first start to its end.

    Waits follow how long the last start took and how much there is left to train.
    """
    out, moments, tally = told.out / "killed", random.Random(told.seed), Tally()
    steps = int(read_block_meta(told.out / "undisturbed" / "blocks" / "000", "latest")["step"])
    while tally.kills < told.kills:
        saved = saved_step(out)
        left_s = training_s * max(SHARE - (saved or 0) / steps, 0.02)
        longest_s = longest_wait_s(start_s, left_s, told.kills - tally.kills)
        process = start(told.scene, out, (*settings, "--resume") if tally.kills else settings)
        start_s = watch(process, out, moments.uniform(0, longest_s)) or start_s
        if process.poll() is not None:
            if process.returncode != 0:
                fail(out, process.returncode)
            sys.exit(f"The run ended after {tally.kills} kills. Make it longer with training.max_steps.")
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        count_kill(tally, out, half_written=[*out.rglob(f".*.{process.pid}.tmp")])
        check_went_on(tally, out, saved)
    saved = saved_step(out)
    train(told.scene, out, (*settings, "--resume"))
    check_went_on(tally, out, saved)
    return tally


def watch(process: subprocess.Popen[bytes], out: Path, limit_s: float) -> float | None:
    """Waits until `process` ends, at most `limit_s`; after how many seconds it began to train, if it did."""
    begin, start_s = time.perf_counter(), None
    while process.poll() is None and time.perf_counter() - begin < limit_s:
        time.sleep(0.01)
        if start_s is None and is_training(out):
            start_s = time.perf_counter() - begin
    return start_s


def start(scene: Path, out: Path, settings: tuple[str, ...]) -> subprocess.Popen[bytes]:
    """`blocknerf train` in a group of its own, what it says in a file beside `out`."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with said(out).open("wb") as file:
        command = blocknerf("train", "--data-root", scene, "--output-dir", out, *settings)
        wide = {**os.environ, "COLUMNS": "400"}  # sentences in one line
        return subprocess.Popen(command, stdout=file, stderr=file, env=wide, start_new_session=True)


def said(out: Path) -> Path:
    return out.with_suffix(".said")


def is_training(out: Path) -> bool:
    return "Training block 000" in said(out).read_text(errors="replace")


def saved_step(out: Path) -> int | None:
    """Of the checkpoint; None where there is none yet."""
    folder = out / "blocks" / "000"
    return int(read_block_meta(folder, "checkpoint")["step"]) if has_block(folder, "checkpoint") else None


def count_kill(tally: Tally, out: Path, half_written: list[Path]) -> None:
    tally.kills += 1
    tally.during_training += is_training(out)
    tally.during_start += not is_training(out)
    tally.while_writing += bool(half_written)
    moment = "training" if is_training(out) else "start"
    halves = ", ".join(path.name for path in half_written) or "no file"
    print(f"kill {tally.kills} during {moment}, {halves} half written, saved at step {saved_step(out)}", flush=True)


def check_went_on(tally: Tally, out: Path, saved: int | None) -> None:
    """A start that came as far as training must have gone on from what was saved when it began."""
    found = re.search(r"Block 000 goes on at step (\d+)", said(out).read_text(errors="replace"))
    if is_training(out) and saved is not None:
        if found is None or int(found[1]) != saved:
            sys.exit(f"The checkpoint was of step {saved}, and the run began elsewhere: see {said(out)}.")
        tally.went_on += 1


def compare(one: Path, other: Path) -> tuple[list[str], bool]:
    """The names of what both folders hold, and whether all is equal."""
    names = sorted(path.stem for path in one.glob("*.json"))
    equal = names == sorted(path.stem for path in other.glob("*.json")) and figures(one) == figures(other)
    for name in names if equal else ():
        left, right = read_block(one, name), read_block(other, name)
        equal &= left.meta["step"] == right.meta["step"] and left.tensors.keys() == right.tensors.keys()
        equal &= all(same_bytes(left.tensors[key], right.tensors[key]) for key in left.tensors.keys() & right.tensors)
    return [*names, FILE], equal


def same_bytes(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.dtype == other.dtype and one.shape == other.shape and one.numpy().tobytes() == other.numpy().tobytes()


def figures(folder: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (folder / FILE).read_text().splitlines()]
    return [{name: value for name, value in line.items() if not name.startswith(CLOCK)} for line in lines]


def fail(out: Path, code: int | None) -> NoReturn:
    end = "\n".join(said(out).read_text(errors="replace").splitlines()[-20:])
    sys.exit(f"A start of {out} ended with code {code}:\n{end}")


if __name__ == "__main__":
    main()
