"""Millions of hostile files against every reader and every file of ours.

    python -m benchmarks.robustness.fuzz --minutes 20 [--processes 2] [--targets plan,transforms] [--coverage]

Every input follows from the seed, its target and its number, so that one that killed its process can be created again.
Failures are written to --out, a folder per input, and counted: tracebacks, crashes, hangs over 10 s, more than 2 GB,
values that are not finite, long messages. With --coverage, a sample runs under coverage.py, and branches are reported.
"""

import argparse
import json
import multiprocessing
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from benchmarks.report import report
from benchmarks.results import Cell, measured
from benchmarks.robustness.targets import TARGETS, Arena, Files, available, mutated
from blocknerf.core import logging as log_module
from blocknerf.core.logging import console, log

HANG_S = 10
MOST_BYTES = 2 << 30
_SLICE_S = 0.25
_KEPT_OF_A_KIND = 3
_SAMPLE = 200
"""Inputs of each target in the run under coverage."""
COVERED = (
    "scene/readers/*",
    "core/reading.py",
    "core/stored.py",
    "core/ply.py",
    "blocks/plan.py",
    "city/manifest.py",
    "city/alignment/file.py",
    "models/block_file.py",
    "models/block_meta.py",
    "export/paths.py",
    "export/merge.py",
    "export/splats_spz.py",
    "export/splats_ply.py",
    "scene/ray_tables.py",
    "scene/depth.py",
    "scene/photographs.py",
)


@dataclass
class Result:
    executions: Counter[str] = field(default_factory=Counter)
    failures: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """By target, kind (traceback, crash, hang, memory, not finite, long message) and where."""


class _Hang(BaseException):
    pass


def _rng(seed: int, target: str, number: int) -> Random:
    return Random(f"{seed} {target} {number}")


def run_one(arena: Arena, seed: int, number: int) -> tuple[Files, str, str] | None:
    """The input, the kind of failure and where it was; None where all is well."""
    changed = mutated(arena.target, _rng(seed, arena.target.name, number), arena.seeds)
    signal.setitimer(signal.ITIMER_REAL, HANG_S)
    try:
        wrong = arena.try_files(changed)
    except _Hang:
        return changed, "hang", _where(sys.exc_info()[2])
    except MemoryError:
        return changed, "memory", _where(sys.exc_info()[2])
    except Exception as error:  # noqa: BLE001 - whatever a reader should not have raised
        return changed, "traceback", f"{type(error).__name__} {_where(error.__traceback__)}: {str(error)[:120]}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return None if wrong is None else (changed, wrong.partition(":")[0], wrong)


def _where(trace: Any) -> str:
    """The innermost line of ours."""
    frames = [frame for frame in traceback.extract_tb(trace) if "/blocknerf/" in frame.filename]
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "outside"


def _be_quiet() -> None:
    log.setLevel(1000)
    console.quiet = True
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")


def _work(worker: int, names: list[str], settings: argparse.Namespace, folder: str, at: Any, pipe: Any) -> None:
    """Reads inputs worker, worker + processes, ... of every target in turn; tells the parent what failed."""
    _be_quiet()

    def hang(*_: Any) -> None:
        raise _Hang

    signal.signal(signal.SIGALRM, hang)
    arenas = [Arena(TARGETS[name], Path(folder) / name) for name in names]
    for arena in arenas:  # everything is imported and compiled before memory is counted
        wrong = arena.try_files({})
        assert wrong is None, f"{arena.target.name}: the valid files are refused or not finite: {wrong}"
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MOST_BYTES, size + MOST_BYTES))
    while True:
        for row, arena in enumerate(arenas):
            began, count = time.monotonic(), 0
            while time.monotonic() - began < _SLICE_S:
                number = at[2 * row + 1]
                at[0] = row  # what is being read, should this process not live to say it
                failed = run_one(arena, settings.seed, number)
                at[2 * row + 1] = number + settings.processes
                count += 1
                if failed is not None:
                    pipe.send((arena.target.name, 0, number, failed[1], failed[2]))
            pipe.send((arena.target.name, count, 0, "", ""))


def campaign(settings: argparse.Namespace) -> Result:
    names = settings.targets.split(",") if settings.targets else list(available())
    result, context = Result(), multiprocessing.get_context("spawn")
    memory = Path("/dev/shm") if Path("/dev/shm").is_dir() else None
    place = Path(tempfile.mkdtemp(prefix="blocknerf-fuzz-", dir=memory))
    workers = [_Worker(number, names, settings, place, context) for number in range(settings.processes)]
    until = time.monotonic() + 60 * settings.minutes
    printed_s = time.monotonic()
    try:
        while time.monotonic() < until:
            for worker in workers:
                for target, count, number, kind, where in worker.heard():
                    result.executions[target] += count
                    if kind:
                        _note(result, settings, place, (target, number, kind, where))
            if time.monotonic() - printed_s > 60:
                printed_s = time.monotonic()
                print(f"{result.executions.total()} executions, {result.failures.total()} failures", flush=True)
            time.sleep(0.2)
    finally:
        for worker in workers:
            worker.stop()
        shutil.rmtree(place, ignore_errors=True)
    return result


class _Worker:
    """A process that reads inputs. If it dies or hangs, that input is noted and another process continues after it."""

    def __init__(self, number: int, names: list[str], settings: argparse.Namespace, place: Path, context: Any) -> None:
        self._number, self._names, self._settings, self._context = number, names, settings, context
        self._place = str(place / str(number))
        self._at = context.Array("q", [number] * (2 * len(names)), lock=False)
        self._start()

    def _start(self) -> None:
        self._pipe, child_end = self._context.Pipe(False)
        arguments = (self._number, self._names, self._settings, self._place, self._at, child_end)
        self._process = self._context.Process(target=_work, args=arguments, daemon=True)
        self._process.start()
        child_end.close()
        self._heard = time.monotonic() + 240  # imports and compilation

    def heard(self) -> Iterator[tuple[str, int, int, str, str]]:
        try:
            while self._pipe.poll():
                yield self._pipe.recv()
                self._heard = max(self._heard, time.monotonic())
        except EOFError:
            pass
        is_stuck = time.monotonic() - self._heard > 3 * HANG_S
        if is_stuck or not self._process.is_alive():
            row = self._at[0]
            number = self._at[2 * row + 1]
            self._process.kill()
            self._process.join()
            yield self._names[row], 1, number, "hang" if is_stuck else "crash", f"exit {self._process.exitcode}"
            self._at[2 * row + 1] = number + self._settings.processes
            self._start()

    def stop(self) -> None:
        self._process.kill()
        self._process.join()


def _note(result: Result, settings: argparse.Namespace, place: Path, failed: tuple[str, int, str, str]) -> None:
    """Counts a failure and writes its input, made anew from its number."""
    target, number, kind, where = failed
    key = (target, kind, where)
    result.failures[key] += 1
    if result.failures[key] > _KEPT_OF_A_KIND:
        return
    arena = Arena(TARGETS[target], place / "made_again" / target)
    folder = Path(settings.out) / f"{target}-{kind.replace(' ', '_')}-{settings.seed}-{number}"
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in mutated(arena.target, _rng(settings.seed, target, number), arena.seeds).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    (folder / "failure.json").write_text(
        json.dumps({"target": target, "seed": settings.seed, "number": number, "kind": kind, "where": where}) + "\n"
    )
    print(f"{kind} in {target}: {where} ({folder})", flush=True)


def covered(settings: argparse.Namespace) -> None:
    """A sample of every target under coverage.py, in a process of its own; prints each module's share of branches."""
    root = Path(log_module.__file__).parents[1]
    with tempfile.TemporaryDirectory() as folder:
        data = ["--data-file", f"{folder}/coverage"]
        measured = ["--branch", "--include", ",".join(f"{root}/{part}" for part in COVERED)]
        again = ["-m", "benchmarks.robustness.fuzz", "--sample", "--seed", str(settings.seed)]
        subprocess.run([sys.executable, "-m", "coverage", "run", *data, *measured, *again], check=True)
        subprocess.run([sys.executable, "-m", "coverage", "report", *data], check=True)


def sample(settings: argparse.Namespace) -> None:
    """Some inputs of every target, in this process."""
    _be_quiet()
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    with tempfile.TemporaryDirectory() as folder:
        for name, target in available().items():
            arena = Arena(target, Path(folder) / name)
            arena.try_files({})
            for number in range(_SAMPLE):
                run_one(arena, settings.seed, number)


MUST = (
    ">= 1,000,000 executions without a traceback, crash, hang over 10 s, 2 GB, value that is not finite, message over "
    "500 characters"
)
KINDS = ("traceback", "crash", "hang", "memory", "not finite", "long message")


def cells_of(result: Result, seconds: float) -> dict[str, dict[str, Cell]]:
    """A row for each target, and one for all of them."""
    rows: dict[str, dict[str, Cell]] = {}
    for target, count in [*sorted(result.executions.items()), ("all", result.executions.total())]:
        found = Counter[str]()
        for (name, kind, _), times in result.failures.items():
            found[kind] += times if target in (name, "all") else 0
        rows[target] = {"executions": measured(count, format=",.0f")}
        rows[target] |= {kind: measured(found[kind], format=",.0f") for kind in KINDS}
    rows["all"]["executions a second"] = measured(result.executions.total() / seconds, format=",.0f")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--targets", default="", help=f"of {', '.join(TARGETS)}; all unless some are named")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="fuzz-failures")
    parser.add_argument("--coverage", action="store_true")
    parser.add_argument("--sample", action="store_true", help=argparse.SUPPRESS)
    settings = parser.parse_args()
    if settings.coverage or settings.sample:
        (covered if settings.coverage else sample)(settings)
        return
    began = time.monotonic()
    result = campaign(settings)
    report("robustness/fuzz", cells_of(result, time.monotonic() - began))
    executions, failures = result.executions.total(), result.failures.total()
    reached = f"{executions:,} executions in {settings.minutes:g} minutes: {failures} failures"
    name = f"fuzzed inputs, {len(result.executions)} targets: every reader and every file of ours"
    report("robustness/fuzz", {name: {"must": MUST, "reached": reached}}, "trust")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
