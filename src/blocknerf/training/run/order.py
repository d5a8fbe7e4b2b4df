"""When and where each block is trained, by estimated training time."""

from collections.abc import Mapping, Sequence

from blocknerf.blocks.cost import estimates
from blocknerf.blocks.plan import BlockSpec
from blocknerf.training.run.run import Run


def minutes_of(run: Run, blocks: Sequence[BlockSpec], cores: int | None = None) -> dict[str, float]:
    """Estimated minutes of training by block id, with `cores`; None: with all cores of this machine."""
    costs = zip(blocks, estimates(blocks, run.scene, run.config, cores), strict=True)
    return {block.id: cost.minutes for block, cost in costs}


def longest_first(blocks: Sequence[BlockSpec], minutes: Mapping[str, float]) -> list[BlockSpec]:
    """The order in which idle workers take blocks. All end at most a third later than possible (Graham 1969)."""
    return sorted(blocks, key=lambda block: -minutes[block.id])


def spread(minutes: Mapping[str, float], places: int) -> dict[str, int]:
    """The place of each block, from 0: the longest block first, each to the place with the least to do.

    The last place ends at most a third later than possible (Graham 1969). The order of `minutes` does not matter.
    """
    busy_minutes = [0.0] * places
    place_of = {}
    for block_id in sorted(minutes, key=lambda block_id: (-minutes[block_id], block_id)):
        place = busy_minutes.index(min(busy_minutes))
        place_of[block_id] = place
        busy_minutes[place] += minutes[block_id]
    return place_of
