"""Which block learns where, when all learn at the same time: spread by how long each takes."""

from collections.abc import Mapping


def spread(minutes: Mapping[str, float], places: int) -> dict[str, int]:
    """The place of each block, from 0 on: the longest first, each to the place that has the least to do.

    The last place ends at most a third later than it could (Graham 1969). The order of `minutes` does not matter.
    """
    taken = [0.0] * places
    place_of = {}
    for block_id in sorted(minutes, key=lambda block_id: (-minutes[block_id], block_id)):
        place = taken.index(min(taken))
        place_of[block_id] = place
        taken[place] += minutes[block_id]
    return place_of
