"""Possible places of blocks: cells on a grid over the cameras' footprint, or spaced along the drives."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from blocknerf.blocks.ground import GroundFrame
from blocknerf.core.config.block_manager import BlockManagerConfig
from blocknerf.core.errors import UserError
from blocknerf.core.names import natural_order

CellShape = Literal["square", "disc", "street"]
MOST_CANDIDATES = 16_384
"""More cells than this are refused before anything is merged: merging asks each cell about every other one."""
_MOST_BINS = 1024
"""Along either side of the table in which cells are looked up."""


class _Bins(NamedTuple):
    """Lookup tables for the kernels (see cells_numba)."""

    centers_xy: np.ndarray
    is_square: bool
    low_xy: np.ndarray
    width_m: float
    counts: np.ndarray
    begin: np.ndarray
    members: np.ndarray


@dataclass(frozen=True, slots=True)
class Cells:
    """Equal cells on the ground plane: squares on a grid, discs along drives, small discs along the middle of streets.

    A cell is what lies within `half_edge_m` of its centre (for squares in the larger of the two coordinates). With its
    overlap it extends to `reach_m`.
    """

    centers_xy: Float[np.ndarray, "cells 2"]
    half_edge_m: float
    reach_m: float
    shape: CellShape

    def __len__(self) -> int:
        return len(self.centers_xy)

    def distance_m(self, xy: Float[np.ndarray, "n 2"], cell: int) -> Float[np.ndarray, " n"]:
        offsets = np.abs(xy - self.centers_xy[cell])
        return offsets.max(axis=1) if self.shape == "square" else np.linalg.norm(offsets, axis=1)

    def nearest(
        self, xy: Float[np.ndarray, "n 2"], limit_m: float = np.inf
    ) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, " n"]]:
        """The nearest cell of each point and how far its centre is; on a border the first cell has it.

        -1 and infinity where none is as near as `limit_m`.
        """
        from blocknerf.blocks.cells_numba import nearest_cells  # late: the command line's help needs no numba

        cell, distance_m = np.empty(len(xy), np.int64), np.empty(len(xy))
        nearest_cells(np.asarray(xy, np.float64), float(limit_m), *self._bins(), cell, distance_m)
        return cell, distance_m

    def containing(self, xy: Float[np.ndarray, "n 2"]) -> Int[np.ndarray, " n"]:
        """The cell (without overlap) that each point lies in, -1 for none."""
        return self.nearest(xy, self.half_edge_m * (1 + 1e-9))[0]

    def within_reach(self, xy: Float[np.ndarray, "n 2"]) -> tuple[Int[np.ndarray, " pairs"], Int[np.ndarray, " pairs"]]:
        """(point, cell) of every point that lies in a cell with its overlap, point after point."""
        from blocknerf.blocks.cells_numba import cells_within  # late, as above

        xy, bins, none = np.asarray(xy, np.float64), self._bins(), np.empty(0, np.int64)
        number = cells_within(xy, self.reach_m, *bins, none, none)
        points, cells = np.empty(number, np.int64), np.empty(number, np.int64)
        cells_within(xy, self.reach_m, *bins, points, cells)
        return points, cells

    def _bins(self) -> _Bins:
        low_xy, high_xy = self.centers_xy.min(axis=0), self.centers_xy.max(axis=0)
        width_m = max(2 * self.half_edge_m, self.reach_m, float((high_xy - low_xy).max()) / _MOST_BINS)
        counts = np.floor((high_xy - low_xy) / width_m).astype(np.int64) + 1
        columns, rows = np.clip(np.floor((self.centers_xy - low_xy) / width_m).astype(np.int64), 0, counts - 1).T
        bins = columns * counts[1] + rows
        begin = np.concatenate([[0], np.cumsum(np.bincount(bins, minlength=counts.prod()))]).astype(np.int64)
        members = np.argsort(bins, kind="stable")
        centers_xy = np.ascontiguousarray(self.centers_xy, np.float64)
        return _Bins(centers_xy, self.shape == "square", low_xy, width_m, counts, begin, members)


@dataclass(frozen=True, slots=True)
class Placement:
    """Possible blocks: a site each, its own cells, and cells of others that it also covers.

    Every cell is one block's own. Cells on a grid and along drives are a block each and overlap by their reach; cells
    along streets are many to a block, and blocks overlap by the cells that both cover.
    """

    cells: Cells
    sites_xy: Float[np.ndarray, "blocks 2"]
    exclusive: tuple[tuple[int, ...], ...]
    shared: tuple[tuple[int, ...], ...]

    def __len__(self) -> int:
        return len(self.sites_xy)

    @staticmethod
    def of_cells(cells: Cells) -> "Placement":
        """Each cell a block."""
        exclusive = tuple((cell,) for cell in range(len(cells)))
        return Placement(cells, cells.centers_xy, exclusive, tuple(() for _ in exclusive))

    def cells_of(self, blocks: Sequence[int]) -> list[int]:
        """Joins arrays of some blocks, in the order of the blocks."""
        return [cell for block in blocks for cell in self.exclusive[block]]

    def shared_by(self, blocks: Sequence[int]) -> list[int]:
        """Cells of none of these blocks that they cover as well, in ascending order."""
        return sorted({cell for block in blocks for cell in self.shared[block]} - {*self.cells_of(blocks)})

    @property
    def block_of_cell(self) -> Int[np.ndarray, " cells"]:
        blocks = np.empty(len(self.cells), np.int64)
        for block, cells in enumerate(self.exclusive):
            blocks[list(cells)] = block
        return blocks


def place_cells(
    frame: GroundFrame,
    cameras_xy: Float[np.ndarray, "n 2"],
    drives: list[str],
    names: list[str],
    config: BlockManagerConfig,
) -> Cells:
    """Candidate cells in row order from the far left, each with at least one of these cameras.

    A capture that fits into one cell, and `max_blocks` 1, make one square as large as the footprint.
    """
    one = _cells(np.zeros((1, 2)), max(max(frame.extent_m), 1e-3 * config.block_size), config, "square")
    if config.max_blocks == 1:
        return one
    if config.placement == "grid":
        centers_xy = _grid_centers(frame.extent_m, cameras_xy, config.block_size)
        cells = _cells(centers_xy, config.block_size, config, "square")
    else:
        centers_xy = _centers_along_drives(cameras_xy, drives, names, config.block_size)
        cells = _cells(centers_xy, config.block_size, config, "disc")
    if len(cells) > MOST_CANDIDATES:
        raise UserError(
            f"block_manager.block_size={config.block_size:g} cuts a capture of {frame.extent_m[0]:.4g} x "
            f"{frame.extent_m[1]:.4g} m into {len(cells)} cells; give a larger block_size."
        )
    if len(cells) == 1:
        return one
    inhabited = np.unique(cells.nearest(cameras_xy)[0])
    return _cells(cells.centers_xy[inhabited], config.block_size, config, cells.shape)


def _cells(centers_xy: np.ndarray, edge_m: float, config: BlockManagerConfig, shape: CellShape) -> Cells:
    return Cells(centers_xy, edge_m / 2, edge_m * (0.5 + config.overlap_ratio), shape)


def _grid_centers(extent_m: tuple[float, float], cameras_xy: np.ndarray, edge_m: float) -> np.ndarray:
    """Squares of a grid laid centrally over the footprint, those in which cameras stand."""
    counts = np.maximum(1, np.ceil(np.array(extent_m) / edge_m - 1e-9))
    columns_rows = np.clip(np.floor(cameras_xy / edge_m + counts / 2), 0, counts - 1)
    columns_rows = np.unique(columns_rows, axis=0)
    reading_order = np.lexsort((columns_rows[:, 0], -columns_rows[:, 1]))
    return (columns_rows[reading_order] + 0.5 - counts / 2) * edge_m


def _centers_along_drives(cameras_xy: np.ndarray, drives: list[str], names: list[str], spacing_m: float) -> np.ndarray:
    """Evenly along each drive's way, at most `spacing_m` apart; a place that another drive (or an earlier part of
    the same) already has within half that spacing is not taken twice.

    Stops at one centre more than MOST_CANDIDATES.
    """
    centers, number = np.empty((MOST_CANDIDATES + 1, 2)), 0
    for rows in ways_of(drives, names):
        for center in _evenly_along(cameras_xy[rows], spacing_m):
            if number <= MOST_CANDIDATES and not (_lengths(centers[:number] - center) < spacing_m / 2).any():
                centers[number], number = center, number + 1
    centers = centers[:number]
    return centers[reading_order(centers, spacing_m)]


def ways_of(drives: Sequence[str], names: Sequence[str]) -> list[list[int]]:
    """Rows of images along each way, in order. A drive's images in one folder are one camera's way: a rig's cameras
    are not strung one after the other."""
    ways: dict[tuple[str, str], list[int]] = {}
    for row, (drive, name) in enumerate(zip(drives, names, strict=True)):
        ways.setdefault((drive, name.rpartition("/")[0]), []).append(row)
    ordered = sorted(ways, key=lambda way: (way[0], PurePosixPath(way[1])))
    return [sorted(ways[way], key=lambda row: natural_order(names[row])) for way in ordered]


def reading_order(places_xy: Float[np.ndarray, "n 2"], row_m: float) -> Int[np.ndarray, " n"]:
    """Row after row of the map, from the far left."""
    return np.lexsort((places_xy[:, 0], -np.round(places_xy[:, 1] / row_m)))


def _lengths(offsets_xy: np.ndarray) -> np.ndarray:
    return np.linalg.norm(offsets_xy, axis=1)


def _evenly_along(path_xy: np.ndarray, spacing_m: float) -> np.ndarray:
    """Middles of equal pieces of a polyline, none longer than `spacing_m`."""
    length_m = travelled_m(path_xy)[-1]
    pieces = min(max(1, int(np.ceil(length_m / spacing_m - 1e-9))), MOST_CANDIDATES + 1)
    return along(path_xy, (np.arange(pieces) + 0.5) * length_m / pieces)


def travelled_m(path: Float[np.ndarray, "n axes"]) -> Float[np.ndarray, " n"]:
    """How far along a polyline each of its points is, on the ground."""
    return np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(path[:, :2], axis=0), axis=1))])


def along(path: Float[np.ndarray, "n axes"], at_m: Float[np.ndarray, " places"]) -> Float[np.ndarray, "places axes"]:
    """The places of a polyline that are so far along it on the ground."""
    known_m = travelled_m(path)
    return np.stack([np.interp(at_m, known_m, column) for column in path.T], axis=1)
