"""Which block gets which images: by the camera's place, and by what it sees. Small blocks merge."""

import functools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from blocknerf.blocks.cells_numba import tally
from blocknerf.blocks.image_visibility import ImageVisibility
from blocknerf.blocks.placement import Cells, Placement
from blocknerf.runtime.cores import available_cores

SHARE_SEEN = 0.25
"""An image from outside belongs to a block when at least this share of what it sees lies in the block's cells."""


@dataclass(frozen=True, slots=True)
class Claims:
    """A cell's claims on images, in ascending order of images: a list, because each cell claims few.

    `near`: it is the image's nearest cell, or the camera is within reach. `seen`: the share of what the image sees that
    is in the cell.
    """

    images: Int[np.ndarray, " claims"]
    near: Bool[np.ndarray, " claims"]
    seen: Float[np.ndarray, " claims"]

    @property
    def granted(self) -> Int[np.ndarray, " granted"]:
        """The images that belong there, in order."""
        return self.images[self.near | (self.seen >= SHARE_SEEN)]

    def union(self, other: "Claims") -> "Claims":
        """The union of both claims."""
        images = np.union1d(self.images, other.images)
        near, seen = np.zeros(len(images), bool), np.zeros(len(images))
        for claims in (self, other):
            at = np.searchsorted(images, claims.images)
            near[at] |= claims.near
            seen[at] += claims.seen
        return Claims(images, near, seen)


@dataclass(frozen=True, slots=True)
class Assignment:
    """Blocks made of placed ones, and the images of each in order. `merged`: (block given up, taker, images)."""

    members_of_block: tuple[tuple[int, ...], ...]
    images_of_block: tuple[np.ndarray, ...]  # [images] int64
    merged: tuple[tuple[int, int, int], ...]


def claim_images(cells: Cells, cameras_xy: Float[np.ndarray, "images 2"], sights: ImageVisibility) -> list[Claims]:
    """Claims of every cell; each image is near to at least one."""
    rows, within = cells.within_reach(cameras_xy)
    near_image = np.concatenate([np.arange(len(cameras_xy)), rows])
    near_cell = np.concatenate([cells.nearest(cameras_xy)[0], within])
    seen_image, seen_cell, share = _shares_seen(cells, sights)
    return gather_claims(len(cells), (near_image, near_cell), (seen_image, seen_cell), share)


def gather_claims(
    cells: int,
    near: tuple[Int[np.ndarray, " near"], Int[np.ndarray, " near"]],
    seen: tuple[Int[np.ndarray, " seen"], Int[np.ndarray, " seen"]],
    shares: Float[np.ndarray, " seen"],
) -> list[Claims]:
    """The claims of each cell, from (images, cells) that are near and (images, cells) that are seen, with shares."""
    images = int(max(near[0].max(initial=-1), seen[0].max(initial=-1))) + 1
    near_pairs, seen_pairs = (cell * images + image for image, cell in (near, seen))
    pairs = np.sort(np.concatenate([near_pairs, seen_pairs]))
    pairs = pairs[np.diff(pairs, prepend=-1) > 0]
    is_near, share = np.zeros(len(pairs), bool), np.zeros(len(pairs))
    is_near[np.searchsorted(pairs, near_pairs)] = True
    share[np.searchsorted(pairs, seen_pairs)] = shares
    ends = np.searchsorted(pairs, np.arange(cells + 1) * images)
    spans = [slice(first, end) for first, end in zip(ends[:-1], ends[1:], strict=True)]
    return [Claims(pairs[span] - cell * images, is_near[span], share[span]) for cell, span in enumerate(spans)]


def _shares_seen(cells: Cells, sights: ImageVisibility) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(images, cells, shares of what the image sees that lie in the cell), where that is anything."""

    def of_part(part: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        begin, places_xy = sights.of_each(part)
        cell_of_place = cells.containing(places_xy)
        rows, seen, numbers = (np.empty(len(cell_of_place), np.int64) for _ in range(3))
        count = tally(cell_of_place, begin, rows, seen, numbers)
        rows = rows[:count]
        return part[rows], seen[:count].copy(), numbers[:count] / np.diff(begin)[rows]

    nothing = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    with ThreadPoolExecutor(available_cores()) as threads:
        found = [nothing, *threads.map(of_part, sights.parts())]
    images, seen, shares = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return images, seen, shares


def claims_of_blocks(placement: Placement, of_cells: list[Claims]) -> list[Claims]:
    """The claims of each placed block: those of its own cells and of cells that it also covers."""
    return [
        functools.reduce(Claims.union, (of_cells[cell] for cell in (*exclusive, *shared)))
        for exclusive, shared in zip(placement.exclusive, placement.shared, strict=True)
    ]


def assign_images(
    placement: Placement, of_cells: list[Claims], is_train: Bool[np.ndarray, " images"], fewest: int
) -> Assignment:
    """Merges the smallest block under `fewest` training images into its nearest neighbour until there is none.

    Ties go to the first in order. Blocks keep the number of their first member, so `merged` can be read in order.
    """
    claims = claims_of_blocks(placement, of_cells)
    members: dict[int, tuple[int, ...]] = {block: (block,) for block in range(len(placement))}
    block_of_cell = placement.block_of_cell
    counts = np.array([is_train[claim.granted].sum() for claim in claims], np.float64)
    merged: list[tuple[int, int, int]] = []
    while len(members) > 1:
        smallest = int(np.argmin(counts))
        if counts[smallest] >= fewest:
            break
        cells = placement.cells_of(members[smallest])
        taker = _nearest_block(placement.cells, block_of_cell, cells)
        merged.append((smallest, taker, int(counts[smallest])))
        members[taker] += members.pop(smallest)
        block_of_cell[cells] = taker
        claims[taker] = claims[taker].union(claims[smallest])
        counts[taker], counts[smallest] = is_train[claims[taker].granted].sum(), np.inf
    images = tuple(claims[block].granted for block in members)
    return Assignment(tuple(members.values()), images, tuple(merged))


def _nearest_block(cells: Cells, block_of_cell: Int[np.ndarray, " cells"], block_cells: list[int]) -> int:
    """By the distance between the nearest centres of two blocks' cells."""
    offsets = cells.centers_xy[block_cells][:, None] - cells.centers_xy[None]
    distances_m = np.linalg.norm(offsets, axis=-1).min(axis=0)
    distances_m[block_cells] = np.inf
    of_block_m = np.full(len(cells), np.inf)
    np.minimum.at(of_block_m, block_of_cell, distances_m)
    return int(np.argmin(np.round(of_block_m / cells.half_edge_m, 6)))


def find_neighbours(
    placement: Placement, assignment: Assignment, is_train: Bool[np.ndarray, " images"]
) -> Bool[np.ndarray, "blocks blocks"]:
    """Blocks that share training images, or whose cells with their overlap intersect. Nobody neighbours itself."""
    cells, neighbours = placement.cells, _share_images(assignment, is_train)
    block_of_cell = np.empty(len(cells), np.int64)
    for block, members in enumerate(assignment.members_of_block):
        block_of_cell[placement.cells_of(members)] = block
    for block, members in enumerate(assignment.members_of_block):
        neighbours[block, block_of_cell[placement.shared_by(members)]] = True
    for cell in range(len(cells)):
        touching = cells.distance_m(cells.centers_xy, cell) < 2 * cells.reach_m * (1 - 1e-9)
        neighbours[block_of_cell[cell], block_of_cell[touching]] = True
    return (neighbours | neighbours.T) & ~np.eye(len(neighbours), dtype=bool)


def _share_images(assignment: Assignment, is_train: np.ndarray) -> np.ndarray:
    """[blocks, blocks], true above the diagonal where two have a training image in common.

    With all (image, block) sorted, the blocks of an image stand side by side.
    """
    found = np.zeros((len(assignment.images_of_block),) * 2, bool)
    images = np.concatenate(assignment.images_of_block)
    blocks = np.repeat(np.arange(len(found)), [len(ids) for ids in assignment.images_of_block])
    images, blocks = images[is_train[images]], blocks[is_train[images]]
    order = np.argsort(images, kind="stable")
    images, blocks = images[order], blocks[order]
    for apart in range(1, len(found)):
        shared = images[:-apart] == images[apart:]
        if not shared.any():
            break
        found[blocks[:-apart][shared], blocks[apart:][shared]] = True
    return found
