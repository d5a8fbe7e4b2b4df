"""A fault at every call that changes the disk, in every command: is anything lost, and can the command resume?

python -m benchmarks.robustness.io_faults [--commands plan,train] [--errors ENOSPC,"kill before"] [--every 1]
    [--first 1] [--processes 2] [--folder /dev/shm/faults]

For n = 1, 2, 3, ... the n-th call of core.disk fails (errors ENOSPC, EIO, EACCES, EMFILE, EROFS; the first two in the
middle of a write), or the process ends there (before the call, in the middle of it, after it), until the command
succeeds without a fault. After each fault, every earlier file is unchanged, or new and whole. Then the same command is
run again, or with --resume if the message says so. At the end, all files are those of an undisturbed run, byte by byte,
and no temporary file is left. Not compared: logs, figures of time, COLMAP's database.
"""

import argparse
import json
import os
import shutil
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from benchmarks.report import report
from benchmarks.robustness import forks
from benchmarks.robustness.commands import COMMANDS, Command
from benchmarks.robustness.forks import ERRORS, KILLS
from benchmarks.robustness.trial import Tally, Trial, cells_of, in_words


def campaign(arguments: argparse.Namespace, chosen: Sequence[Command], folder: Path) -> list[Tally]:
    tallies = []
    shutil.rmtree(folder, ignore_errors=True)
    for command in chosen:
        begin = time.monotonic()
        trial = Trial(command, folder)
        tally = Tally(command.name, trial.calls)
        for place, number in enumerate(numbers(trial.calls, arguments)):
            for kind in [arguments.errors[place % len(arguments.errors)]] if arguments.one else arguments.errors:
                tally.add(trial.fault(number, kind), f"call {number} of {trial.calls}, {kind}")
        tally.seconds = time.monotonic() - begin
        tallies.append(tally)
        print(json.dumps(tally.figures()), flush=True)
    return tallies


def numbers(calls: int, arguments: argparse.Namespace) -> Sequence[int]:
    """Of the calls that are tried: all, each so manieth, or so many spread evenly."""
    if arguments.sample is None:
        return range(arguments.first, calls + 1, arguments.every)
    return sorted({1 + calls * (2 * part + 1) // (2 * arguments.sample) for part in range(arguments.sample)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commands", default=",".join(command.name for command in COMMANDS))
    parser.add_argument("--errors", default=",".join((*ERRORS, *KILLS)), type=lambda text: text.split(","))
    parser.add_argument("--one", action="store_true", help="one of the errors at each call, by turns, and not all")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--sample", type=int, help="so many calls of each command, spread evenly")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm/blocknerf-faults"))
    arguments = parser.parse_args()
    arguments.errors = arguments.errors if isinstance(arguments.errors, list) else arguments.errors.split(",")
    names = arguments.commands.split(",")
    unknown = set(names) - {command.name for command in COMMANDS}
    if unknown:
        sys.exit(f"There is no command {', '.join(sorted(unknown))}.")
    chosen = [command for command in COMMANDS if command.name in names]
    forks.load_everything()
    shares = [chosen[number :: arguments.processes] for number in range(arguments.processes)]
    pipes = [_in_process(arguments, share, arguments.folder / str(number)) for number, share in enumerate(shares)]
    tallies = [Tally.of(json.loads(line)) for pipe in pipes for line in pipe]
    report("robustness/io_faults", cells_of(tallies))
    must = "every call of every command, 0 losses, byte-equal after it resumed"
    faults = {"must": must, "reached": in_words(tallies, "faults")}
    report("robustness/io_faults", {"faults at calls to the disk": faults}, "trust")
    if any(tally.wrong for tally in tallies):
        sys.exit(1)


def _in_process(arguments: argparse.Namespace, chosen: Sequence[Command], folder: Path):
    """A child for a share of the commands; a pipe with a line of figures for each."""
    read, write = os.pipe()
    if os.fork() == 0:
        code = 1
        try:
            os.close(read)
            with os.fdopen(write, "w") as pipe:
                pipe.writelines(json.dumps(tally.figures()) + "\n" for tally in campaign(arguments, chosen, folder))
            code = 0
        except BaseException:  # noqa: BLE001 (shown as the interpreter would)
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)
    os.close(write)
    return os.fdopen(read)


if __name__ == "__main__":
    main()
