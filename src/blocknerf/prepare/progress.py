"""Bars that say how far a stage is."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from blocknerf.core.logging import console


class Bar:
    """One line of progress; `reach` takes how much is done in all."""

    def __init__(self, progress: Progress, task):
        self._progress, self._task = progress, task

    def reach(self, done: float | int) -> None:
        self._progress.update(self._task, completed=done)

    def advance(self, more: int = 1) -> None:
        self._progress.advance(self._task, more)


@contextmanager
def bar(what: str, total: float | int) -> Iterator[Bar]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        yield Bar(progress, progress.add_task(what, total=total))
