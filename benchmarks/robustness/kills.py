"""Every command killed at random moments, one worker among several, and two commands at once: is anything lost?

python -m benchmarks.robustness.kills [--kills 20] [--commands plan,train] [--seed 0] [--folder /dev/shm/kills]

Each command is ended by SIGTERM, SIGINT, SIGHUP or SIGKILL, in turn, at a random moment, then run again (or with
--resume, if its message says so); in two of three cases, it is killed again while it resumes. Then two commands are
started at the same time: one works, and the other waits or names the first. Last, with `train --jobs 2` through the
shell, one worker is killed. After each, earlier files are unchanged, or new and whole. At the end, all files are those
of an undisturbed run, byte by byte, except for logs and figures of time.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.measure import blocknerf
from benchmarks.report import report
from benchmarks.robustness import forks
from benchmarks.robustness.commands import COMMANDS, Command, comparable, read_tree, restore
from benchmarks.robustness.forks import Outcome
from benchmarks.robustness.trial import Problem, Tally, Trial, cells_of, in_words

SIGNALS = (signal.SIGTERM, signal.SIGKILL, signal.SIGINT, signal.SIGHUP)
MOST_KILLS = 3
"""Maximum number of kills of one run, including its resumes."""


def kill(trial: Trial, moments: random.Random, number: int) -> list[Problem]:
    """Kills the command up to MOST_KILLS times before it may resume undisturbed."""
    restore(trial.template, trial.root)
    ended = []
    for again in range(1 + moments.randrange(MOST_KILLS)):
        with_resume = again > 0 and trial.command.name.startswith(("train", "resume"))
        child = trial.start(trial.folder / "said.txt", *(["--resume"] if with_resume else []))
        time.sleep(moments.uniform(0, 1.1 * trial.seconds))
        os.kill(child, SIGNALS[(number + again) % len(SIGNALS)])
        ended.append(_ended(trial, child))
        if ended[-1].code in (0, 2):
            break
    return trial.judge([outcome for outcome in ended if outcome.code != 2 or "--resume" not in outcome.message])


def two_at_once(trial: Trial, moments: random.Random) -> list[Problem]:
    """The same command twice, the second a random moment later; whoever comes second works behind it or is refused.

    An update that works behind another trains once more, as two in order do.
    """
    twice = trial.twice() if "--update" in trial.command.line(trial.root) else trial.expected
    restore(trial.template, trial.root)
    places = [trial.folder / f"said_{number}.txt" for number in range(2)]
    children = []
    for place in places:
        children.append(trial.start(place))
        time.sleep(moments.uniform(0, 0.7 * trial.seconds))
    outcomes = [_ended(trial, child, place) for child, place in zip(children, places, strict=True)]
    problems = [("traceback", f"neither worked: {outcomes[0].message}; {outcomes[1].message}")] * all(
        each.code for each in outcomes
    )
    for each in outcomes:
        known = ("(process ", "--resume", "Another command has changed the plan")
        if each.code and not any(words in each.message for words in known):
            problems.append(("does not go on", f"at once with another: {each.message or each.end}"))
    return problems + trial.judge(outcomes, twice if all(each.code == 0 for each in outcomes) else trial.expected)


def _ended(trial: Trial, child: int, output: Path | None = None) -> Outcome:
    """One that a signal ended before it began, or when it was over, counts as stopped, or as done."""
    code = forks.wait(child, forks.LONGEST_S)
    if code in (-signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP):
        code = 0 if comparable(read_tree(trial.root), trial.command) == trial.expected else 130
    return Outcome(code, (output or trial.folder / "said.txt").read_text(errors="replace"), 0, 0.0)


def kill_a_worker(folder: Path, moments: random.Random) -> list[Problem]:
    """One of the processes of `train --jobs 2`; other blocks are trained all the same, and --resume brings the rest."""
    command = next(command for command in COMMANDS if command.name == "train")
    trial = Trial(command, folder)
    restore(trial.template, trial.root)
    line = [word if word != "1" else "2" for word in command.line(trial.root)]
    with (folder / "said.txt").open("wb") as output:
        parent = subprocess.Popen(blocknerf(*line), stdout=output, stderr=output)
    end = time.monotonic() + moments.uniform(0, 6)
    worker = None
    while parent.poll() is None and (worker is None or time.monotonic() < end):
        time.sleep(0.02)
        worker = next(_workers(parent.pid), None)
    if worker is not None:
        os.kill(worker, signal.SIGKILL)
    code = parent.wait(300)
    return trial.judge([Outcome(code, (folder / "said.txt").read_text(errors="replace"), 0, 0.0)])


def _workers(parent: int) -> Iterator[int]:
    """Processes that multiprocessing started for `parent`."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            above = int(path.read_text().rpartition(")")[2].split()[1])
            line = (path.parent / "cmdline").read_text()
        except OSError:
            continue
        if above == parent and "spawn_main" in line:
            yield int(path.parent.name)


def campaign(chosen: Sequence[Command], arguments: argparse.Namespace) -> list[Tally]:
    moments, tallies = random.Random(arguments.seed), []
    for command in chosen:
        begin, trial, tally = time.monotonic(), Trial(command, arguments.folder), Tally(command.name)
        for number in range(arguments.kills):
            state = moments.getstate()[1][-1]
            tally.add(kill(trial, moments, number), f"kill {number} (state {state})")
        for number in range(arguments.pairs):
            tally.add(two_at_once(trial, moments), f"two at once {number}")
        tally.seconds = time.monotonic() - begin
        tallies.append(tally)
        print(json.dumps(tally.figures()), flush=True)
    tally = Tally("a worker of train --jobs 2")
    for number in range(arguments.workers):
        tally.add(kill_a_worker(arguments.folder / "workers", moments), f"worker {number}")
    return [*tallies, tally]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commands", default=",".join(command.name for command in COMMANDS))
    parser.add_argument("--kills", type=int, default=15)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm/blocknerf-kills"))
    arguments = parser.parse_args()
    names = arguments.commands.split(",")
    forks.load_everything()
    tallies = campaign([command for command in COMMANDS if command.name in names], arguments)
    report("robustness/kills", cells_of(tallies))
    kills = {"must": ">= 300 over all commands, 0 losses", "reached": in_words(tallies, "trials")}
    report("robustness/kills", {"kills": kills}, "trust")
    if any(tally.wrong for tally in tallies):
        sys.exit(1)


if __name__ == "__main__":
    main()
