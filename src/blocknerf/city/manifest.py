"""city.json: the blocks of the city, where they are, and how their pictures are blended."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from blocknerf.blocks.plan import Layout, Plan
from blocknerf.core.config.block_manager import BlockManagerConfig
from blocknerf.core.config.city import CityConfig
from blocknerf.core.errors import UserError
from blocknerf.core.stored import (
    Above0,
    BlockId,
    Coordinate,
    FileName,
    Length,
    NotBelow0,
    Place,
    Share,
    Text,
    Whole,
    fitted,
    read_stored,
    write_stored,
)
from blocknerf.scene.scene import NO_OFFSET, GeoOrigin, Offset

MANIFEST_VERSION = 3
DEFAULT_CITY = CityConfig()
DEFAULT_REACH = 1.5
"""Distance in block sizes within which blocks are blended, if the configuration gives none."""


@dataclass(frozen=True, slots=True)
class CityBlock:
    """One block of the city; its files are `blocks/<id>/<name>.json`, the first of `files` that exists."""

    id: BlockId
    anchor_world: Place  # metres
    cells_xy: tuple[tuple[Coordinate, Coordinate], ...]  # centres of its cells on the ground of the manifest's layout
    files: tuple[FileName, ...] = ("latest",)


@dataclass(frozen=True, slots=True)
class Manifest:
    """The city of one plan, trained or not. Blocks without files are skipped when it is opened."""

    scene_hash: Text
    divide_by: Literal["camera", "surface"]
    blending: Literal["visibility", "distance", "nearest"]
    blend_power: NotBelow0
    distance_threshold_m: Length
    max_composited: Whole
    visibility_threshold: Share
    blocks: tuple[CityBlock, ...]
    layout: Layout | None = None  # needed if pictures are blended by the surfaces in them
    earlier_scene_hashes: tuple[Text, ...] = ()  # of earlier versions with fewer images; their blocks fit
    memory_budget_gb: Above0 = DEFAULT_CITY.memory_budget_gb  # of loaded blocks
    geo_origin: GeoOrigin | None = None  # of the scene; None if its place on Earth is unknown
    world_offset_m: Offset = NO_OFFSET  # of the scene


def manifest_of(plan: Plan, config: BlockManagerConfig, city: CityConfig = DEFAULT_CITY) -> Manifest:
    return Manifest(
        scene_hash=plan.scene_hash,
        divide_by=config.divide_by,
        blending=config.blending,
        blend_power=config.blend_power,
        distance_threshold_m=config.distance_threshold or DEFAULT_REACH * config.block_size,
        max_composited=config.max_composited,
        visibility_threshold=config.visibility_threshold,
        blocks=tuple(CityBlock(block.id, block.anchor_world, block.cells_xy) for block in plan.blocks),
        layout=plan.layout,
        earlier_scene_hashes=plan.earlier_scene_hashes,
        memory_budget_gb=city.memory_budget_gb,
        geo_origin=plan.geo_origin,
        world_offset_m=plan.world_offset_m,
    )


def write_manifest(out: Path, manifest: Manifest) -> Path:
    """Writes OUT/city.json; the same plan and configuration give the same bytes."""
    path = out / "city.json"
    write_stored(path, {"version": MANIFEST_VERSION, **asdict(manifest)}, _FREE)
    return path


def read_manifest(out: Path) -> Manifest:
    """Raises UserError if city.json is missing, damaged, or of another version."""
    path = out / "city.json"
    if not path.is_file():
        raise UserError(f"There is no city at {out}: city.json is missing. Train it first with `blocknerf train`.")
    tree = read_stored(path, "city file", _REMEDY, MANIFEST_VERSION, _FREE)
    return fitted(Manifest, tree, "city file", path, _REMEDY)


_REMEDY = "Run `blocknerf train` with --resume to write it again."
_FREE = ("memory_budget_gb",)


def block_folder(out: Path, block_id: str) -> Path:
    return out / "blocks" / block_id


def checkpoint_folder(out: Path, block_id: str, checkpoint_dir: str | None) -> Path:
    """Folder of a block's states: the block's folder, or one in `output.checkpoint_dir`."""
    return block_folder(out, block_id) if checkpoint_dir is None else out / checkpoint_dir / block_id
