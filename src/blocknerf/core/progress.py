"""Progress bars in one style."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from blocknerf.core.logging import console


def bars(enabled: bool = True) -> Progress:
    """A line per task: name, count, time left. Disappears at the end."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=not enabled)


class Bar:
    """One progress bar; `reach` takes the total done so far."""

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
