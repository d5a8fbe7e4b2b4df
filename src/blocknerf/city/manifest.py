"""city.json: which blocks make the city, where they stand, and how their pictures are blended."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from blocknerf.blocks.plan import Layout, Plan, offset_from_json
from blocknerf.core.config import BlockManagerConfig, CityConfig
from blocknerf.core.errors import UserError
from blocknerf.core.files import write_json
from blocknerf.core.names import require_plain
from blocknerf.core.reading import read_json
from blocknerf.scene.scene import NO_OFFSET, GeoOrigin, Offset

MANIFEST_VERSION = 3
DEFAULT_CITY = CityConfig()
DEFAULT_REACH = 1.5
"""Block sizes within which blocks are blended when the configuration names no distance."""


@dataclass(frozen=True, slots=True)
class CityBlock:
    """One block of the city; its files are `blocks/<id>/<name>.json`, the first of `files` that exists."""

    id: str
    anchor_world: tuple[float, float, float]  # metres
    cells_xy: tuple[tuple[float, float], ...]  # centres of its cells on the ground of the manifest's layout
    files: tuple[str, ...] = ("latest",)


@dataclass(frozen=True, slots=True)
class Manifest:
    """The city of one plan, trained or not: blocks without files are left out when it is opened."""

    scene_hash: str
    divide_by: Literal["camera", "surface"]
    blending: Literal["visibility", "distance", "nearest"]
    blend_power: float
    distance_threshold_m: float
    max_composited: int
    visibility_threshold: float
    blocks: tuple[CityBlock, ...]
    layout: Layout | None = None  # needed where pictures are blended by what they show
    earlier_scene_hashes: tuple[str, ...] = ()  # of scenes that this one has grown from; their blocks are good here
    memory_budget_gb: float = DEFAULT_CITY.memory_budget_gb  # of loaded blocks
    geo_origin: GeoOrigin | None = None  # of the scene; none: nobody said where on Earth it lies
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
    write_json(path, {"version": MANIFEST_VERSION, **asdict(manifest)})
    return path


def read_manifest(out: Path) -> Manifest:
    """Raises UserError when city.json is missing, damaged, or of another version."""
    path = out / "city.json"
    if not path.is_file():
        raise UserError(f"There is no city at {out}: city.json is missing. Train it first with `blocknerf train`.")
    tree = read_json(path, "city file")
    version = tree.get("version") if isinstance(tree, dict) else None
    if version != MANIFEST_VERSION:
        raise UserError(
            f"{path} is a city of version {version}; this program reads version {MANIFEST_VERSION}. "
            "Run `blocknerf train` with --resume to write it again."
        )
    try:
        return Manifest(
            scene_hash=str(tree["scene_hash"]),
            divide_by=tree["divide_by"],
            blending=tree["blending"],
            blend_power=float(tree["blend_power"]),
            distance_threshold_m=float(tree["distance_threshold_m"]),
            max_composited=int(tree["max_composited"]),
            visibility_threshold=float(tree["visibility_threshold"]),
            blocks=tuple(_block_from_json(block) for block in tree["blocks"]),
            layout=tree["layout"] and Layout.from_json(tree["layout"]),
            earlier_scene_hashes=tuple(str(old) for old in tree.get("earlier_scene_hashes", ())),
            memory_budget_gb=float(tree.get("memory_budget_gb", DEFAULT_CITY.memory_budget_gb)),
            geo_origin=tree.get("geo_origin") and GeoOrigin.from_json(tree["geo_origin"]),
            world_offset_m=offset_from_json(tree),
        )
    except UserError as error:
        raise UserError(
            f"The city file {path} cannot be followed. {error} Run `blocknerf train` with --resume to write it again."
        ) from error
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"The city file {path} is damaged ({error!r}). Run `blocknerf train` with --resume to write it again."
        ) from error


def block_folder(out: Path, block_id: str) -> Path:
    return out / "blocks" / block_id


def _block_from_json(tree: dict) -> CityBlock:
    x, y, z = tree["anchor_world"]
    return CityBlock(
        id=require_plain(str(tree["id"]), "The block id"),
        anchor_world=(float(x), float(y), float(z)),
        cells_xy=tuple((float(cx), float(cy)) for cx, cy in tree["cells_xy"]),
        files=tuple(require_plain(str(name), "The block file") for name in tree["files"]),
    )
