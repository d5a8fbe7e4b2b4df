"""The plan: which blocks there are, where they stand, which images each is given. One arrow that crosses machines."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from blocknerf.blocks.ground import GroundFrame
from blocknerf.blocks.placement import Cells
from blocknerf.core.errors import UserError
from blocknerf.core.files import write_json
from blocknerf.core.names import require_plain
from blocknerf.core.reading import read_json
from blocknerf.scene.scene import NO_OFFSET, GeoOrigin, ImageRecord, Offset, Scene

PLAN_VERSION = 1


@dataclass(frozen=True, slots=True)
class BlockSpec:
    """One block. The contraction is the identity inside the cube of half edge `radius_m` around `center_world`."""

    id: str
    center_world: tuple[float, float, float]  # metres
    radius_m: float
    anchor_world: tuple[float, float, float]  # what distances to cameras are measured from when blocks are blended
    train_images: tuple[str, ...]  # image ids
    test_images: tuple[str, ...]
    neighbours: tuple[str, ...] = ()  # ids of blocks that share images with this one, or touch it
    cells_xy: tuple[tuple[float, float], ...] = ()  # centres of its cells on the ground of the plan's layout


@dataclass(frozen=True, slots=True)
class Layout:
    """The ground that blocks are laid out on: a frame in the world (rows of `axes_world`: x, y, up) and a cell in it.

    Squares measure distance by the larger coordinate, discs as usual. With its overlap a cell extends to
    `cell_reach_m`.
    """

    origin_world: tuple[float, float, float]
    axes_world: tuple[tuple[float, float, float], ...]
    cell_shape: Literal["square", "disc"]
    cell_half_edge_m: float
    cell_reach_m: float

    def frame(self) -> GroundFrame:
        """The ground frame, without the extent of what was captured."""
        return GroundFrame(np.array(self.origin_world), np.array(self.axes_world), (0.0, 0.0))

    def cells(self, centers_xy: tuple[tuple[float, float], ...]) -> Cells:
        return Cells(np.array(centers_xy), self.cell_half_edge_m, self.cell_reach_m, self.cell_shape)

    @staticmethod
    def from_json(tree: dict[str, Any]) -> "Layout":
        ox, oy, oz = tree["origin_world"]
        return Layout(
            origin_world=(float(ox), float(oy), float(oz)),
            axes_world=tuple((float(x), float(y), float(z)) for x, y, z in tree["axes_world"]),
            cell_shape=tree["cell_shape"],
            cell_half_edge_m=float(tree["cell_half_edge_m"]),
            cell_reach_m=float(tree["cell_reach_m"]),
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """Blocks of one scene. `scene_hash` and `config_hash` say what they were made from."""

    scene_hash: str
    config_hash: str
    blocks: tuple[BlockSpec, ...]
    merged: tuple[tuple[str, str, int], ...] = ()  # (block given up, the neighbour that took it, its images)
    layout: Layout | None = None  # only pictures and blocks divided by surface need it, and updates
    earlier_scene_hashes: tuple[str, ...] = ()  # of the scene before images came to it; its blocks are still good
    later_images: tuple[str, ...] = ()  # ids of the images that came since the plan was made, given to a block or not
    geo_origin: GeoOrigin | None = None  # of the scene
    world_offset_m: Offset = NO_OFFSET  # of the scene

    def block(self, block_id: str) -> BlockSpec:
        for block in self.blocks:
            if block.id == block_id:
                return block
        known = ", ".join(block.id for block in self.blocks)
        raise UserError(f"The plan has no block {block_id!r}. It has: {known}.")

    @property
    def links(self) -> dict[str, tuple[str, ...]]:
        """By block id: its neighbours."""
        return {block.id: block.neighbours for block in self.blocks}

    def ground(self) -> Layout:
        """Raises UserError when the plan carries no layout."""
        if self.layout is None:
            raise UserError("The plan says nothing of the ground that it lies on. Delete plan.json and plan again.")
        return self.layout


def planned_split(plan: Plan, scene: Scene) -> tuple[tuple[ImageRecord, ...], tuple[ImageRecord, ...]]:
    """(train, test) images that any block is given, each sorted by name.

    This is the scene's split when the plan was made, and stays it for old images when new ones come between them.
    """
    images = sorted(scene.images, key=lambda image: image.name)
    train = {name for block in plan.blocks for name in block.train_images}
    test = {name for block in plan.blocks for name in block.test_images}
    return tuple(image for image in images if image.id in train), tuple(image for image in images if image.id in test)


def write_plan(path: Path, plan: Plan) -> None:
    write_json(path, {"version": PLAN_VERSION, **_to_json(plan)})


def read_plan(path: Path) -> Plan:
    """Raises UserError when the file is missing, damaged, or of another version."""
    tree = read_json(path, "plan")
    version = tree.get("version") if isinstance(tree, dict) else None
    if version != PLAN_VERSION:
        raise UserError(
            f"{path} is a plan of version {version}; this program reads version {PLAN_VERSION}. "
            "Delete it and plan again."
        )
    try:
        blocks = tuple(_block_from_json(block) for block in tree["blocks"])
        merged = tuple((str(a), str(b), int(n)) for a, b, n in tree["merged"])
        layout = tree["layout"] and Layout.from_json(tree["layout"])
        earlier, later = (tuple(map(str, tree.get(key, ()))) for key in ("earlier_scene_hashes", "later_images"))
        origin = tree.get("geo_origin") and GeoOrigin.from_json(tree["geo_origin"])
        offset_m = offset_from_json(tree)
        plan = Plan(tree["scene_hash"], tree["config_hash"], blocks, merged, layout, earlier, later, origin, offset_m)
    except UserError as error:
        raise UserError(f"The plan {path} cannot be followed. {error} Delete it and plan again.") from error
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"The plan {path} is damaged ({error!r}). Delete it and plan again: the same scene and configuration give "
            "the same plan."
        ) from error
    if not plan.blocks:
        raise UserError(f"The plan {path} holds no block. Delete it and plan again.")
    return plan


def offset_from_json(tree: dict[str, Any]) -> Offset:
    """Raises TypeError or ValueError for what is no place."""
    x, y, z = tree.get("world_offset_m", NO_OFFSET)
    offset_m = (float(x), float(y), float(z))
    if not all(map(math.isfinite, offset_m)):
        raise ValueError(f"world_offset_m is {offset_m}")
    return offset_m


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


def _block_from_json(tree: dict[str, Any]) -> BlockSpec:
    x, y, z = tree["center_world"]
    ax, ay, az = tree["anchor_world"]
    return BlockSpec(
        id=require_plain(str(tree["id"]), "The block id"),
        center_world=(float(x), float(y), float(z)),
        radius_m=float(tree["radius_m"]),
        anchor_world=(float(ax), float(ay), float(az)),
        train_images=tuple(tree["train_images"]),
        test_images=tuple(tree["test_images"]),
        neighbours=tuple(tree["neighbours"]),
        cells_xy=tuple((float(cx), float(cy)) for cx, cy in tree["cells_xy"]),
    )
