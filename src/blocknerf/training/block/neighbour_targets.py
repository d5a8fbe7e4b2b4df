"""Targets of a block's consistency term: what its neighbours rendered on rays that both see."""

from typing import Any

from torch import Tensor

from blocknerf.core.types import RAY_TENSORS, RayBatch
from blocknerf.training.block.losses.block_nerf_loss import SharedRays

NEIGHBOURS = "neighbours"
"""Name of these targets among the parts of a checkpoint."""


class SharedBorders:
    """Targets of the current round, by neighbour."""

    def __init__(self, every: int):
        self.every = every
        self.number = 0
        """Number of the round; 0 before the first one."""
        self.borders: dict[str, SharedRays] = {}

    def at(self, step: int, share: float = 1.0) -> list[SharedRays]:
        """Targets of one step, or of a part of one. Over the steps of a round, every ray comes once."""
        rows = slice(step % self.every, None, self.every * round(1 / share))
        targets = [_rows_of(shared, rows) for shared in self.borders.values()]
        return [shared for shared in targets if len(shared.rays)]


class NeighbourTargets(SharedBorders):
    """Targets from neighbours that learn at the same time. They are in the checkpoint: no one can render them again."""

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = {"number": self.number}
        for neighbour, shared in self.borders.items():
            state |= {f"{neighbour}.{name}": tensor for name, tensor in _tensors(shared).items()}
        return state

    def restore(self, state: dict[str, Any]) -> None:
        self.number = state["number"]
        neighbours = dict.fromkeys(name.partition(".")[0] for name in state if "." in name)
        self.borders = {}
        for neighbour in neighbours:
            names = (*RAY_TENSORS, "rgb", "distance_m", "weights")
            tensors = {name: state[f"{neighbour}.{name}"] for name in names}
            rays = RayBatch(*(tensors.pop(name) for name in RAY_TENSORS))
            self.borders[neighbour] = SharedRays(rays, **tensors)


def _rows_of(shared: SharedRays, rows: slice) -> SharedRays:
    return SharedRays(shared.rays[rows], shared.rgb[rows], shared.distance_m[rows], shared.weights[rows])


def _tensors(shared: SharedRays) -> dict[str, Tensor]:
    of_rays = {name: getattr(shared.rays, name) for name in RAY_TENSORS}
    return of_rays | {name: getattr(shared, name) for name in ("rgb", "distance_m", "weights")}
