"""The plan: the blocks, their places, and the images of each. A file that travels between machines."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from blocknerf.blocks.ground import GroundFrame
from blocknerf.blocks.placement import Cells, CellShape
from blocknerf.core.errors import UserError, quote
from blocknerf.core.stored import BlockId, Coordinate, Length, Place, Text, Whole, fitted, read_stored, write_stored
from blocknerf.geometry.matrices import is_rotation
from blocknerf.scene.scene import NO_OFFSET, GeoOrigin, ImageRecord, Offset, Scene

PLAN_VERSION = 1


@dataclass(frozen=True, slots=True)
class BlockSpec:
    """One block. The contraction is the identity inside the cube of half edge `radius_m` around `center_world`."""

    id: BlockId
    center_world: Place  # metres
    radius_m: Length
    anchor_world: Place  # from which distances to cameras are measured for blending
    train_images: tuple[Text, ...]  # image ids
    test_images: tuple[Text, ...]
    neighbours: tuple[Text, ...] = ()  # ids of blocks that share images with this one, or touch it
    cells_xy: tuple[tuple[Coordinate, Coordinate], ...] = ()  # centres of its cells on the ground of the plan's layout
    shared_xy: tuple[tuple[Coordinate, Coordinate], ...] = ()  # and of cells of its neighbours that it covers as well
    bounded: bool = False  # nothing is outside of the ball of `radius_m` around `center_world`


@dataclass(frozen=True, slots=True)
class Layout:
    """The ground that blocks are laid out on: a frame in the world (rows of `axes_world`: x, y, up) and a cell in it.

    Squares measure distance by the larger coordinate, discs as usual. With its overlap a cell extends to
    `cell_reach_m`; those of streets do not, for there blocks overlap by the cells that they share.
    """

    origin_world: Place
    axes_world: tuple[Place, ...]
    cell_shape: CellShape
    cell_half_edge_m: Length
    cell_reach_m: Length

    def __post_init__(self) -> None:
        """Raises ValueError if the axes are not a frame."""
        if len(self.axes_world) != 3 or not is_rotation(np.array(self.axes_world, np.float64)):
            raise ValueError(f"the axes of the ground are no rotation: {quote(self.axes_world)}")

    def frame(self) -> GroundFrame:
        """The ground frame, without the extent of the capture."""
        return GroundFrame(np.array(self.origin_world), np.array(self.axes_world), (0.0, 0.0))

    def cells(self, centers_xy: tuple[tuple[float, float], ...]) -> Cells:
        return Cells(np.array(centers_xy), self.cell_half_edge_m, self.cell_reach_m, self.cell_shape)


@dataclass(frozen=True, slots=True)
class Plan:
    """Blocks of one scene. `scene_hash` and `config_hash` say what they were made from."""

    scene_hash: Text
    config_hash: Text
    blocks: tuple[BlockSpec, ...]
    merged: tuple[tuple[Text, Text, Whole], ...] = ()  # (block given up, the neighbour that took it, its images)
    layout: Layout | None = None  # only pictures and blocks divided by surface need it, and updates
    earlier_scene_hashes: tuple[Text, ...] = ()  # of the scene before images were added; its blocks are still valid
    later_images: tuple[Text, ...] = ()  # ids of images added since the plan was made, assigned to a block or not
    geo_origin: GeoOrigin | None = None  # of the scene
    world_offset_m: Offset = NO_OFFSET  # of the scene

    def block(self, block_id: str) -> BlockSpec:
        for block in self.blocks:
            if block.id == block_id:
                return block
        known = ", ".join(block.id for block in self.blocks)
        raise UserError(f"The plan has no block {block_id!r}. It has: {known}.")

    def select(self, block_ids: Sequence[str]) -> list[BlockSpec]:
        """Blocks by id, each once; all if `block_ids` is empty. Raises UserError for an unknown id."""
        return [self.block(block_id) for block_id in dict.fromkeys(block_ids)] or list(self.blocks)

    @property
    def links(self) -> dict[str, tuple[str, ...]]:
        """By block id: its neighbours."""
        return {block.id: block.neighbours for block in self.blocks}

    def ground(self) -> Layout:
        """Raises UserError if the plan has no layout."""
        if self.layout is None:
            raise UserError("The plan has no description of its ground. Delete plan.json and plan again.")
        return self.layout


def planned_split(plan: Plan, scene: Scene) -> tuple[tuple[ImageRecord, ...], tuple[ImageRecord, ...]]:
    """(train, test) images of all blocks, each sorted by name.

    This is the scene's split when the plan was made; it stays the same for old images when new ones are added.
    """
    images = sorted(scene.images, key=lambda image: image.name)
    train = {name for block in plan.blocks for name in block.train_images}
    test = {name for block in plan.blocks for name in block.test_images}
    return tuple(image for image in images if image.id in train), tuple(image for image in images if image.id in test)


def write_plan(path: Path, plan: Plan) -> None:
    write_stored(path, {"version": PLAN_VERSION, **_to_json(plan)})


def read_plan(path: Path) -> Plan:
    """Raises UserError when the file is missing, damaged, or of another version."""
    tree = read_stored(path, "plan", _REMEDY, PLAN_VERSION)
    plan = fitted(Plan, tree, "plan", path, _REMEDY)
    if not plan.blocks:
        raise UserError(f"The plan {path} holds no block. Delete it and plan again.")
    return plan


_REMEDY = "Delete it and plan again: the same scene and configuration give the same plan."


def _to_json(plan: Plan) -> dict[str, Any]:
    return {
        "scene_hash": plan.scene_hash,
        "config_hash": plan.config_hash,
        "blocks": [{name: getattr(block, name) for name in BlockSpec.__slots__} for block in plan.blocks],
        "merged": plan.merged,
        "layout": plan.layout and {name: getattr(plan.layout, name) for name in Layout.__slots__},
        "earlier_scene_hashes": plan.earlier_scene_hashes,
        "later_images": plan.later_images,
        "geo_origin": plan.geo_origin and asdict(plan.geo_origin),
        "world_offset_m": plan.world_offset_m,
    }
