"""Restarts of the field while poses are learned.

A field that has learned from wrong poses shows its images sharply from where they wrongly stand, so that no small
motion of them lowers the loss. Begun anew from the poses learned so far, it is consistent with better ones.
"""

from dataclasses import dataclass

RESTARTS_END = 1 / 3
"""Share of the run by which the field has begun anew for the last time: detail takes the rest."""
POSES_REST = 0.2
"""Share of the time between two restarts in which poses rest, because a new field tells them nothing."""


@dataclass(frozen=True, slots=True)
class FieldRestarts:
    """`count` restarts at equal distances, the last one at RESTARTS_END. `progress` is of the run, in [0, 1]."""

    count: int

    def behind(self, progress: float) -> int:
        """How many restarts are behind."""
        return min(int(progress * self.count / RESTARTS_END + 1e-9), self.count)

    def since(self, progress: float) -> float:
        """How much of the time from the last restart to the next, or to the end of the run, is behind, in [0, 1]."""
        begin, end = self._around(progress)
        return min(1.0, max(0.0, (progress - begin) / (end - begin)))

    def poses_rest(self, progress: float) -> bool:
        """Whether the field has just begun anew."""
        begin, _ = self._around(progress)
        return begin > 0 and progress - begin < POSES_REST * RESTARTS_END / self.count

    def _around(self, progress: float) -> tuple[float, float]:
        """The last restart, or the beginning of the run, and the next restart, or the end."""
        number = self.behind(progress)
        begin, end = (RESTARTS_END * restart / max(self.count, 1) for restart in (number, number + 1))
        return begin, end if number < self.count else 1.0
