"""One command that is disturbed: does it lose any files, and can it resume?"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from benchmarks.results import Cell, measured
from benchmarks.robustness import commands, forks
from benchmarks.robustness.commands import Command, comparable, read_tree, restore
from benchmarks.robustness.forks import At, Outcome
from blocknerf.core.disk import is_unfinished

MOST_SHOWN = 8
Problem = tuple[str, str]
"""Its kind, and details."""
KINDS = ("loss", "not byte-equal", "does not go on", "left behind", "message over 500 characters", "traceback")


@dataclass
class Tally:
    """Of one command: how many calls it makes, what was tried, and what went wrong, by kind."""

    command: str
    calls: int = 0
    tried: int = 0
    seconds: float = 0.0
    wrong: Counter[str] = field(default_factory=Counter)

    def add(self, problems: Sequence[Problem], of: str) -> None:
        self.tried += 1
        for kind in sorted({kind for kind, _ in problems}):
            found = [what for each, what in problems if each == kind]
            self.wrong[kind] += 1
            if self.wrong[kind] <= MOST_SHOWN:
                more = f", and {len(found) - MOST_SHOWN} more" if len(found) > MOST_SHOWN else ""
                print(f"{self.command}, {of}: {kind}: {', '.join(found[:MOST_SHOWN])}{more}", flush=True)

    def figures(self) -> dict:
        return {**vars(self), "wrong": dict(self.wrong), "seconds": round(self.seconds)}

    @classmethod
    def of(cls, figures: dict) -> "Tally":
        """What `figures` gave."""
        return cls(**{**figures, "wrong": Counter(figures["wrong"])})


def in_words(tallies: Sequence[Tally], what: str) -> str:
    wrong = sum((tally.wrong for tally in tallies), Counter[str]())
    found = ", ".join(f"{count} {kind}" for kind, count in wrong.items()) or "nothing lost, all byte-equal"
    return f"{sum(tally.tried for tally in tallies):,} {what} of {len(tallies)} commands: {found}"


def cells_of(tallies: Sequence[Tally]) -> dict[str, dict[str, Cell]]:
    """A row for each command, and one for all of them."""
    calls, tried = sum(tally.calls for tally in tallies), sum(tally.tried for tally in tallies)
    wrong = sum((tally.wrong for tally in tallies), Counter[str]())
    whole = Tally("all", calls, tried, sum(tally.seconds for tally in tallies), wrong)
    return {
        tally.command: {
            **({"calls": measured(tally.calls, format=",.0f")} if whole.calls else {}),
            "tried": measured(tally.tried, format=",.0f"),
            "time": measured(tally.seconds, "s", ",.0f"),
            **{kind: measured(tally.wrong[kind], format=",.0f") for kind in KINDS},
        }
        for tally in [*tallies, whole]
    }


class Trial:
    """One command, on folders below `folder`; it always runs at the same path, which stands in what it writes."""

    def __init__(self, command: Command, folder: Path):
        self.command, self.folder, self.root = command, folder, folder / "work"
        folder.mkdir(parents=True, exist_ok=True)
        self.template = commands.template(command.before, folder / "before", self.root)
        restore(self.template, self.root)
        self.before = comparable(read_tree(self.root), command)
        untouched = self.run(longest_s=forks.COMPILING_S)
        if untouched.code:
            raise RuntimeError(f"{command.name} ends with {untouched.code} untouched: {untouched.text}")
        self.calls, self.seconds = untouched.calls, untouched.seconds
        self.expected = comparable(read_tree(self.root), command)

    def run(self, at: At | None = None, longest_s: float = forks.LONGEST_S) -> Outcome:
        return forks.run(*self._started(), at, self.command.line(self.root), longest_s)

    def start(self, output: Path, *more: str) -> int:
        """The process id of the command, which then runs beside this one."""
        line = [*self.command.line(self.root), *(word for word in more if word not in self.command.line(self.root))]
        return forks.start(commands.command_of(self.command, line), output, At(), line)

    def _started(self):
        return commands.command_of(self.command, self.command.line(self.root)), self.folder / "said.txt"

    def fault(self, number: int, kind: str) -> list[Problem]:
        """What goes wrong when the call of that number does."""
        restore(self.template, self.root)
        return self.judge([self.run(At(number, kind))])

    def twice(self) -> dict[str, bytes]:
        """All files after the command has run two times in order."""
        restore(self.template, self.root)
        for outcome in (self.run(), self.run()):
            if outcome.code:
                raise RuntimeError(f"{self.command.name} ends with {outcome.code} untouched: {outcome.text}")
        return comparable(read_tree(self.root), self.command)

    def judge(self, disturbed: Sequence[Outcome], expected: dict[str, bytes] | None = None) -> list[Problem]:
        """What is wrong after the command was disturbed. Resumes it, and compares the end with `expected`."""
        expected = self.expected if expected is None else expected
        problems = [(what, outcome.message or outcome.end) for outcome in disturbed for what in outcome.faults]
        problems += [("loss", what) for what in self._lost(comparable(read_tree(self.root), self.command))]
        ways = (
            []
            if disturbed[-1].code == 0
            else commands.train_iteration(self.command, self.root, self.folder / "said.txt")
        )
        problems += [(what, f"going on: {way.message or way.end}") for way in ways for what in way.faults]
        if ways and ways[-1].code:
            return [*problems, ("does not go on", ways[-1].message or ways[-1].end)]
        end, missed = comparable(read_tree(self.root), self.command), _missed([*disturbed, *ways])
        left = [name for name in end.keys() - expected.keys() if Path(name).name.startswith(".")]
        problems += [("left behind", name) for name in left]
        different = [name for name in end | expected if end.get(name) != expected.get(name)]
        unsaid = [name for name in different if name not in left and not any(part in name for part in missed)]
        return problems + [("not byte-equal", name) for name in unsaid]

    def _lost(self, after: dict[str, bytes]) -> Iterator[str]:
        for name, content in self.before.items():
            if is_unfinished(name.rpartition("/")[2]):
                continue
            if name not in after:
                if name in self.expected and not any(fnmatch(name, free) for free in self.command.rebuilt):
                    yield f"{name} is gone"
            elif after[name] not in (content, self.expected.get(name)) and not commands.is_whole(name, after[name]):
                yield f"{name} is damaged"


def _missed(outcomes: Sequence[Outcome]) -> set[str]:
    """What the command itself said that it could not write or remove, and went on: states to keep, pictures, curves."""
    text = "".join(each.text for each in outcomes)
    unsaved = re.findall(r"continues unsaved\. Cannot write (\S+?)(?:-[0-9a-f]{16}\.safetensors|\.json|):", text)
    curves = ["metrics.jsonl"] if "metrics.jsonl of" in text and "ends here" in text else []
    kept = [
        part for part in (Path(path).name for path in unsaved) if part.startswith(("best", "step_", "test_", "novel_"))
    ]
    stale = re.findall(r"(\S+) is of no use any more and cannot be removed", text)
    return {*kept, *curves, *(Path(path).name for path in stale)}
