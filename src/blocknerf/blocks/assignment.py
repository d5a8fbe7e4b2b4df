"""Which block is given which images: by where the camera stands, and by what it sees. Small blocks merge."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from blocknerf.blocks.placement import Cells
from blocknerf.blocks.sights import Sights

SHARE_SEEN = 0.25
"""An image from outside belongs to a block when at least this share of what it sees lies in the block's cells."""


@dataclass(frozen=True, slots=True)
class Claims:
    """Per image and block: is it the nearest, does the camera stand within reach, what share of its sight is there."""

    home: Bool[np.ndarray, "images blocks"]
    within: Bool[np.ndarray, "images blocks"]
    seen: Float[np.ndarray, "images blocks"]

    @property
    def granted(self) -> Bool[np.ndarray, "images blocks"]:
        return self.home | self.within | (self.seen >= SHARE_SEEN)

    def union(self, kept: int, given_up: int) -> "Claims":
        """The claims after block `given_up` has gone over into `kept`: no image is lost."""
        home, within, seen = self.home.copy(), self.within.copy(), self.seen.copy()
        home[:, kept] |= home[:, given_up]
        within[:, kept] |= within[:, given_up]
        seen[:, kept] += seen[:, given_up]
        return Claims(*(np.delete(table, given_up, axis=1) for table in (home, within, seen)))


@dataclass(frozen=True, slots=True)
class Assignment:
    """Blocks made of cells. `granted[i, b]`: image i belongs to block b. `merged`: (cell given up, taker, images)."""

    cells_of_block: tuple[tuple[int, ...], ...]
    granted: Bool[np.ndarray, "images blocks"]
    merged: tuple[tuple[int, int, int], ...]


def claim_images(cells: Cells, cameras_xy: Float[np.ndarray, "images 2"], sights: Sights) -> Claims:
    """Claims of every cell; each image has exactly one home."""
    images, columns = len(cameras_xy), range(len(cells))
    within = np.stack([cells.distance_m(cameras_xy, cell) <= cells.reach_m for cell in columns], axis=1)
    home = cells.nearest(cameras_xy)[0][:, None] == np.arange(len(cells))
    return Claims(home, within, _shares_seen(images, cells, sights))


def _shares_seen(images: int, cells: Cells, sights: Sights) -> np.ndarray:
    cell = cells.containing(sights.places[:, :2])[sights.seen]
    counts = np.bincount(sights.rows * (len(cells) + 1) + cell + 1, minlength=images * (len(cells) + 1))
    counts = counts.reshape(images, len(cells) + 1)
    return counts[:, 1:] / np.maximum(counts.sum(axis=1, keepdims=True), 1)


def assign_images(cells: Cells, claims: Claims, is_train: Bool[np.ndarray, " images"], fewest: int) -> Assignment:
    """Merges the smallest block under `fewest` training images into its nearest neighbour until none is left.

    Ties go to the first in order. Blocks keep the number of their first cell, so `merged` can be read in order.
    """
    blocks: list[tuple[int, ...]] = [(cell,) for cell in range(len(cells))]
    merged: list[tuple[int, int, int]] = []
    while len(blocks) > 1:
        counts = (claims.granted & is_train[:, None]).sum(axis=0)
        smallest = int(np.argmin(counts))
        if counts[smallest] >= fewest:
            break
        taker = _nearest_block(cells, blocks, smallest)
        merged.append((blocks[smallest][0], blocks[taker][0], int(counts[smallest])))
        blocks[taker] += blocks[smallest]
        del blocks[smallest]
        claims = claims.union(taker, smallest)
    return Assignment(tuple(blocks), claims.granted, tuple(merged))


def _nearest_block(cells: Cells, blocks: list[tuple[int, ...]], block: int) -> int:
    distances_m = [
        np.inf if other == block else blocks_apart_m(cells, blocks[block], blocks[other])
        for other in range(len(blocks))
    ]
    return int(np.argmin(np.round(np.array(distances_m) / cells.half_edge_m, 6)))


def blocks_apart_m(cells: Cells, a: tuple[int, ...], b: tuple[int, ...]) -> float:
    """Distance between the nearest centres of two blocks' cells."""
    offsets = cells.centers_xy[list(a)][:, None] - cells.centers_xy[list(b)][None]
    return float(np.linalg.norm(offsets, axis=-1).min())


def find_neighbours(
    cells: Cells, assignment: Assignment, is_train: Bool[np.ndarray, " images"]
) -> Bool[np.ndarray, "blocks blocks"]:
    """Blocks that share training images, or whose cells with their overlap intersect. Nobody neighbours itself."""
    train = (assignment.granted & is_train[:, None]).astype(np.int64)
    neighbours = train.T @ train > 0
    block_of_cell = np.empty(len(cells), np.int64)
    for block, members in enumerate(assignment.cells_of_block):
        block_of_cell[list(members)] = block
    for cell in range(len(cells)):
        touching = cells.distance_m(cells.centers_xy, cell) < 2 * cells.reach_m * (1 - 1e-9)
        neighbours[block_of_cell[cell], block_of_cell[touching]] = True
    return (neighbours | neighbours.T) & ~np.eye(len(neighbours), dtype=bool)
