"""Bars that say how far something is, all of one look."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from blocknerf.core.logging import console


def bars(shown: bool = True) -> Progress:
    """A line a task: what, how many of how many, how much longer. Gone when all is done."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=not shown)


class Bar:
    """One line of progress; `reach` takes how much is done in all."""

    def __init__(self, progress: Progress, task: TaskID):
        self._progress, self._task = progress, task

    def reach(self, done: float | int) -> None:
        self._progress.update(self._task, completed=done)

    def advance(self, more: int = 1) -> None:
        self._progress.advance(self._task, more)


@contextmanager
def bar(what: str, total: float | int) -> Iterator[Bar]:
    """The only task there is."""
    with bars() as progress:
        yield Bar(progress, progress.add_task(what, total=total))
