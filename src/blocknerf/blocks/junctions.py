"""Blocks at junctions (Block-NeRF, section 3.1): each covers its junction and most of every street to the next.

Small cells are placed along streets. A cell belongs to the block that is nearest along the street. A block also covers
cells beyond the middle of the way to the next block, as far as `overlap_ratio`: 0.25 is the paper's 75 %.
"""

from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float, Int

from blocknerf.blocks.placement import MOST_CANDIDATES, Cells, Placement, along, reading_order
from blocknerf.blocks.streets import Street, StreetNetwork, street_m
from blocknerf.core.config.block_manager import BlockManagerConfig
from blocknerf.core.errors import UserError

CELLS_PER_BLOCK = 8
"""Minimum number of cells per `block_size`."""
ARMS_PER_BLOCK = 2.0
"""Length in block sizes up to which a street gets no further blocks: each end's block covers half of it."""


@dataclass(slots=True)
class _Strung:
    """Cells along streets: centres, the owning block of each, and the block that also covers it."""

    centers_xy: list[np.ndarray] = field(default_factory=list)
    owners: list[np.ndarray] = field(default_factory=list)
    others: list[np.ndarray] = field(default_factory=list)


def place_at_junctions(
    network: StreetNetwork, cameras_xy: Float[np.ndarray, "cameras 2"], config: BlockManagerConfig
) -> Placement | None:
    """A block at each junction, and more at even distances on streets longer than ARMS_PER_BLOCK block sizes.

    Streets of a map, or ends of streets, that no camera has passed have no cells; blocks without cells are dropped.
    None if no junction is left. Raises UserError for too many cells, and if no camera is on a street of the map.
    """
    longest_m = config.block_size / CELLS_PER_BLOCK
    sites, strung = [*network.junctions_xy], _Strung()
    for street in network.streets:
        stops_m, first = _stops(street, config.block_size), len(sites)
        sites += list(along(street.path_xy, stops_m))
        blocks = [street.begins, *range(first, len(sites)), street.ends]
        ends_m = [0.0, *stops_m.tolist(), street.length_m]
        for i in range(len(blocks) - 1):
            _string(strung, street, (ends_m[i], ends_m[i + 1]), (blocks[i], blocks[i + 1]), longest_m, config)
    if not network.streets:
        return None
    cells = Cells(np.concatenate(strung.centers_xy), longest_m / 2, longest_m / 2, "street")
    driven = _driven(cells, cameras_xy, config)
    owners, others = np.concatenate(strung.owners)[driven], np.concatenate(strung.others)[driven]
    if not (owners < len(network.junctions_xy)).any():
        return None
    in_order = reading_order(np.array(sites), config.block_size).tolist()
    blocks = [block for block in in_order if (owners == block).any()]
    return Placement(
        replace(cells, centers_xy=cells.centers_xy[driven]),
        np.array(sites)[blocks],
        exclusive=tuple(tuple(np.flatnonzero(owners == block).tolist()) for block in blocks),
        shared=tuple(tuple(np.flatnonzero(others == block).tolist()) for block in blocks),
    )


def _stops(street: Street, block_size_m: float) -> Float[np.ndarray, " blocks"]:
    """Places of further blocks on a street, in metres from its beginning; half a spacing from ends without a block."""
    length_m, open_ends = street.length_m, (street.begins is None) + (street.ends is None)
    number = max(0, int(np.ceil(length_m / (ARMS_PER_BLOCK * block_size_m) - 1 + open_ends / 2 - 1e-9)))
    if open_ends == 2:
        number = max(number, 1)
    spacing_m = length_m / (number + 1 - open_ends / 2)
    first_m = spacing_m / 2 if street.begins is None else spacing_m
    return first_m + spacing_m * np.arange(number)


def _string(
    strung: _Strung,
    street: Street,
    between_m: tuple[float, float],
    blocks: tuple[int | None, int | None],
    longest_m: float,
    config: BlockManagerConfig,
) -> None:
    """Cells on the way between two blocks, or from one to where the street ends."""
    begin_m, end_m = between_m
    pieces = 4 * max(1, int(np.ceil((end_m - begin_m) / (4 * longest_m) - 1e-9)))  # quarters end where cells do
    shares = (np.arange(pieces) + 0.5) / pieces
    strung.centers_xy.append(along(street.path_xy, begin_m + shares * (end_m - begin_m)))
    one, other = (-1 if block is None else block for block in blocks)
    if -1 in (one, other):
        strung.owners.append(np.full(pieces, max(one, other)))
        strung.others.append(np.full(pieces, -1))
        return
    near = shares < 0.5
    strung.owners.append(np.where(near, one, other))
    reached = np.abs(shares - 0.5) <= config.overlap_ratio
    strung.others.append(np.where(reached & (one != other), np.where(near, other, one), -1))


def _driven(cells: Cells, cameras_xy: np.ndarray, config: BlockManagerConfig) -> Int[np.ndarray, " driven"]:
    """Cells with a camera within a street's width."""
    within_m = street_m(config.block_size)
    driven = np.unique(replace(cells, reach_m=within_m).within_reach(cameras_xy)[1])
    if not len(driven):
        raise UserError(
            f"No street of {config.streets_file} runs within {within_m:g} m of a camera. Is it the map of this place, "
            "and is the geo_origin of the scene right? Without block_manager.streets_file junctions follow from the "
            "drives."
        )
    if len(driven) > MOST_CANDIDATES:
        raise UserError(
            f"block_manager.block_size={config.block_size:g} cuts the streets into {len(driven)} cells, and "
            f"{MOST_CANDIDATES} are the most; give a larger block_size."
        )
    return driven
