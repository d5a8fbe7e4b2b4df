"""Restarts of the field while poses are learned.

A field that has learned from wrong poses renders sharp images at these poses, so that no small change of a pose lowers
the loss. A new field, trained from the poses learned so far, is consistent with better ones.
"""

from dataclasses import dataclass

RESTARTS_END = 1 / 3
"""Share of the run at which the last restart happens. Detail needs the rest."""
POSES_REST = 0.2
"""Share of the time between two restarts in which poses are frozen, because a new field gives them no information."""


@dataclass(frozen=True, slots=True)
class FieldRestarts:
    """`count` restarts at equal intervals, the last one at RESTARTS_END. `progress` is that of the run, in [0, 1]."""

    count: int

    def behind(self, progress: float) -> int:
        """Number of restarts that have happened."""
        return min(int(progress * self.count / RESTARTS_END + 1e-9), self.count)

    def since(self, progress: float) -> float:
        """Progress in [0, 1] from the last restart to the next one, or to the end of the run."""
        begin, end = self._around(progress)
        return min(1.0, max(0.0, (progress - begin) / (end - begin)))

    def poses_rest(self, progress: float) -> bool:
        """Whether poses are frozen, because the field has just been restarted."""
        begin, _ = self._around(progress)
        return begin > 0 and progress - begin < POSES_REST * RESTARTS_END / self.count

    def _around(self, progress: float) -> tuple[float, float]:
        """The last restart (or the beginning of the run), and the next one (or its end)."""
        number = self.behind(progress)
        begin, end = (RESTARTS_END * restart / max(self.count, 1) for restart in (number, number + 1))
        return begin, end if number < self.count else 1.0
