"""The ground cut half-way between the blocks of a plan: every place belongs to exactly one block."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from blocknerf.blocks.ground import GroundFrame
from blocknerf.blocks.placement import Cells
from blocknerf.blocks.plan import Layout, Plan


@dataclass(frozen=True)
class VoronoiCells:
    """Voronoi cells on the ground around the middles of the blocks' cells; on a border the smallest id has it.

    Places count in float32, as splat files hold them, so that a place and its copy in a file have one owner.
    """

    ids: tuple[str, ...]
    layout: Layout
    sites_xy: Float[np.ndarray, "sites 2"]
    site_blocks: Int[np.ndarray, " sites"]

    @staticmethod
    def of(plan: Plan) -> "VoronoiCells":
        """Raises UserError if the plan has no description of its ground."""
        layout = plan.ground()
        blocks = sorted(plan.blocks, key=lambda block: block.id)
        centers = layout.frame().to_ground(np.array([block.center_world for block in blocks]))[:, :2]
        sites = [block.cells_xy or (tuple(center),) for block, center in zip(blocks, centers.tolist(), strict=True)]
        owners = np.repeat(np.arange(len(blocks)), [len(cells) for cells in sites])
        return VoronoiCells(tuple(block.id for block in blocks), layout, np.concatenate(sites).astype(float), owners)

    @property
    def frame(self) -> GroundFrame:
        return self.layout.frame()

    @cached_property
    def _cells(self) -> Cells:
        return self._disc_cells(np.ones(len(self.sites_xy), bool))

    def _disc_cells(self, chosen: Bool[np.ndarray, " sites"]) -> Cells:
        """Distances to sites are Euclidean for every shape of cell, so borders are half-way everywhere."""
        return Cells(self.sites_xy[chosen], self.layout.cell_half_edge_m, self.layout.cell_reach_m, "disc")

    def ground_xy(self, places_world: Shaped[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 2"]:
        return self.frame.to_ground(places_world.astype(np.float32).astype(np.float64))[:, :2]

    def owners(self, places_world: Shaped[np.ndarray, "n 3"]) -> Int[np.ndarray, " n"]:
        """Rows of `ids`."""
        return self.site_blocks[self._cells.nearest(self.ground_xy(places_world))[0]]

    def beside(
        self, places_world: Shaped[np.ndarray, "n 3"], block: int
    ) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, " n"]]:
        """For places that `block` owns: the block beyond the nearest border, and how far away that border is.

        -1 and infinity where there is only one block.
        """
        of_block = self.site_blocks == block
        if of_block.all():
            return np.full(len(places_world), -1), np.full(len(places_world), np.inf)
        xy = self.ground_xy(places_world)
        inner, to_inner = self._disc_cells(of_block).nearest(xy)
        outer, to_outer = self._disc_cells(~of_block).nearest(xy)
        apart = np.linalg.norm(self.sites_xy[of_block][inner] - self.sites_xy[~of_block][outer], axis=1)
        return self.site_blocks[~of_block][outer], (to_outer**2 - to_inner**2) / (2 * apart.clip(min=1e-9))

    def borders(self, block: int) -> list[tuple[int, np.ndarray, np.ndarray]]:
        """(neighbour, a point of the border on the ground, unit normal towards the neighbour), both in the world.

        Of every other block the border between the nearest two sites.
        """
        sites, borders = self.sites_xy[self.site_blocks == block], []
        for other in range(len(self.ids)):
            other_sites = self.sites_xy[self.site_blocks == other]
            if other == block:
                continue
            gaps = other_sites[None] - sites[:, None]
            site, other_site = np.unravel_index(np.linalg.norm(gaps, axis=2).argmin(), gaps.shape[:2])
            gap = gaps[site, other_site]
            middle = self.frame.to_world(np.append(sites[site] + gap / 2, 0.0)[None])[0]
            normal = np.append(gap / np.linalg.norm(gap).clip(min=1e-9), 0.0) @ self.frame.ground_from_world
            borders.append((other, middle, normal))
        return borders
