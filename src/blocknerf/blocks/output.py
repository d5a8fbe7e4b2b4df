"""The output folder: which scene and which configuration it belongs to, and its plan.

OUT/config.json the configuration OUT/scene.json where the scene is, and its hash OUT/plan.json the plan OUT/map.png the
plan as a picture OUT/budget.json what a budget of minutes chose, if there is one
"""

import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from blocknerf.blocks.budget_file import FILE as BUDGET
from blocknerf.blocks.budget_file import StoredBudget, write_budget
from blocknerf.blocks.growth import grow_plan
from blocknerf.blocks.plan import Plan, read_plan, write_plan
from blocknerf.blocks.planner import make_plan, planning_hash
from blocknerf.core import disk
from blocknerf.core.config.block_manager import BlockManagerConfig
from blocknerf.core.config.config import Config
from blocknerf.core.config.dataset import DatasetConfig
from blocknerf.core.config.keys import changeable_keys
from blocknerf.core.config.load import config_to_json, load_config
from blocknerf.core.errors import UserError
from blocknerf.core.files import write_json
from blocknerf.core.lock import holder, is_locked, locked_file
from blocknerf.core.logging import log
from blocknerf.core.reading import read_json
from blocknerf.core.shared_folder import SharedFolder
from blocknerf.core.stored import Text, fitted, read_stored, write_stored
from blocknerf.scene.copies import without_copies
from blocknerf.scene.readers.read import read_scene
from blocknerf.scene.scene import Scene, scene_hash

PLAN_FILES = ("config.json", "scene.json", "plan.json", "map.png", BUDGET)

PLANNING_S = 60.0
"""How long a command waits for another one that plans."""

Settle = Callable[[Config, Scene, Plan], tuple[Config, StoredBudget | None]]
"""Chooses values of keys that depend on the plan; returns the configuration with them, and what is stored of it."""


def as_given(config: Config, scene: Scene, plan: Plan) -> tuple[Config, StoredBudget | None]:
    """A `Settle` that chooses nothing: keys that were not given have their defaults."""
    return config, None


def plan_scene(
    config: Config, data_root: str | Path, output_dir: Path, settle: Settle = as_given
) -> tuple[Config, Scene, Plan]:
    """Reads the scene, opens or creates the output folder, and reads its plan or makes one (with the map).

    `data_root` may be a URL (see SharedFolder); all of it is then copied to this machine. As long as nothing in the
    folder has been trained, another configuration makes another plan. No plan depends on what `settle` chooses; the
    configuration is returned and stored as it leaves it. Raises UserError if the scene cannot be read or
    planned, the folder belongs to another scene or configuration, or it has files with these names that blocknerf did
    not write.
    """
    _require_ours(output_dir)
    scene = _read(SharedFolder.at(data_root), config.dataset, _known_plan(output_dir))
    hash_of_scene = scene_hash(scene)
    check_output(output_dir, hash_of_scene, config)
    with planning(output_dir):
        check_output(output_dir, hash_of_scene, config)
        existing = _existing_plan(output_dir, hash_of_scene, config)
        if existing is None:
            _require_untrained(output_dir)
        plan = make_plan(scene, config) if existing is None else _placed(existing, scene)
        config, budget = settle(config, scene, plan)
        _write_origin(output_dir, hash_of_scene, config, data_root)  # first: it marks the folder as an output folder
        _write_budget(output_dir, budget)
        if existing is None or not (output_dir / "map.png").is_file():
            _draw_map(output_dir / "map.png", plan, scene)
        if plan != existing:
            write_plan(output_dir / "plan.json", plan)  # last: without it, all is made again
    for block in plan.blocks:
        if block.bounded:
            log.info(
                f"The photographs show an object without what is around it. Block {block.id} ends where their "
                f"silhouettes end, {block.radius_m:.3g} m from its centre."
            )
    for given_up, taker, images in plan.merged:
        count = "1 training image" if images == 1 else f"{images} training images"
        log.info(f"Block {given_up} has {count}, too few: merged into block {taker}.")
    return config, scene, plan


def update_scene(
    config: Config, data_root: str | Path, output_dir: Path, block_ids: Sequence[str]
) -> tuple[Config, Scene, Plan]:
    """As `plan_scene`, for a scene that may have new images: only the blocks `block_ids` get them.

    Raises UserError if there is no plan, the configuration differs, or old images were changed.
    """
    scene = _read(SharedFolder.at(data_root), config.dataset, _known_plan(output_dir))
    with planning(output_dir):
        _, plan = load_output(output_dir)
        _require_configuration(output_dir, config)
        grown = grow_plan(plan, scene, config, block_ids)
        _tell_growth(plan, grown, block_ids)
        _draw_map(output_dir / "map.png", grown, scene)
        write_plan(output_dir / "plan.json", grown)
        _write_origin(output_dir, grown.scene_hash, config, data_root)  # last: without it, the scene is still to grow
    return config, scene, grown


@contextmanager
def planning(output_dir: Path) -> Iterator[None]:
    """Lock on the files about all blocks; held briefly, so others wait for it."""
    with locked_file(output_dir / "plan.json", f"The plan in {output_dir} is being changed", PLANNING_S) as held:
        for name in (*PLAN_FILES, "city.json"):
            held.sweep(output_dir, name)
        yield


def _require_ours(output_dir: Path) -> None:
    """Raises UserError for files of these names that blocknerf did not write."""
    existing = [name for name in PLAN_FILES if os.path.lexists(output_dir / name)]
    if existing and not any(_has_keys(output_dir / name, keys) for name, keys in _KEYS.items()):
        raise UserError(
            f"{output_dir / existing[0]} was not written by blocknerf, and planning would replace it. Give another "
            "--output-dir, or move that file elsewhere."
        )


_KEYS = {
    "scene.json": {"data_root", "scene_hash"},
    "plan.json": {"version", "scene_hash", "blocks"},
    "config.json": {*Config.model_fields},  # all that a run that was stopped may have left
}


def _has_keys(path: Path, keys: set[str]) -> bool:
    try:
        tree = read_json(path, "output folder's file") if path.is_file() else None
    except UserError:
        return False
    return isinstance(tree, dict) and keys <= tree.keys()


def _require_untrained(output_dir: Path) -> None:
    """Raises UserError while blocks of the present plan are being trained."""
    if is_locked(output_dir / "blocks"):
        raise UserError(
            f"Blocks of {output_dir} are being trained by {holder(output_dir / 'blocks')}, and another plan would take "
            "them away. Wait until that has ended, or give another --output-dir."
        )


def _tell_growth(plan: Plan, grown: Plan, block_ids: Sequence[str]) -> None:
    for before, after in zip(plan.blocks, grown.blocks, strict=True):
        train, test = (
            len(getattr(after, kind)) - len(getattr(before, kind)) for kind in ("train_images", "test_images")
        )
        if before.id in block_ids:
            log.info("Block %s is given %d new training images and %d test images.", before.id, train, test)
    given = {name for block in grown.blocks for name in (*block.train_images, *block.test_images)}
    left = len([name for name in grown.later_images if name not in given])
    if left:
        log.info("%d new images belong to other blocks; update those as well to have them learned.", left)


def _draw_map(path: Path, plan: Plan, scene: Scene) -> None:
    from blocknerf.blocks.map import draw_map  # late: reusing a plan does not need matplotlib

    draw_map(path, plan, scene)


def pull_plan(folder: SharedFolder) -> None:
    """Pulls the plan of an output folder on a URL, without weights."""
    folder.pull(wanted=_says_of_blocks)


def pull_city(folder: SharedFolder, state: str = "latest") -> None:
    """Pulls a city on a URL: the plan, the weights for rendering, and those of `state`."""
    weights = ["blocks/*/latest-*.safetensors"] + ["*/best-*.safetensors"] * (state == "best")
    folder.pull(wanted=lambda name: _says_of_blocks(name) or any(fnmatch(name, pattern) for pattern in weights))


def _says_of_blocks(name: str) -> bool:
    return "/" not in name or (name.endswith(".json") and not name.startswith("store/"))


def check_output(output_dir: Path, hash_of_scene: str, config: Config) -> None:
    """Raises UserError if the folder belongs to another scene or configuration.

    Keys marked CHANGEABLE may always differ, and all keys as long as no block is trained.
    """
    if output_dir.exists() and not output_dir.is_dir():
        raise UserError(f"{output_dir} is a file; an output folder is needed there. Give another --output-dir.")
    if (output_dir / "scene.json").is_file():
        root, known_hash = _read_scene_json(output_dir)
        if known_hash != hash_of_scene:
            raise UserError(
                f"{output_dir} belongs to another scene (that of {root}, or the capture or "
                "dataset.max_images has changed since). "
                "Give another --output-dir, or the --data-root that it was made from; where images were added, "
                "--blocks with --update."
            )
    _require_configuration(output_dir, config)


def _require_configuration(output_dir: Path, config: Config) -> None:
    if is_settled(output_dir):
        stored = load_config(output_dir / "config.json", stored=True)
        changed = differences(_as_planned(stored, output_dir, config.block_manager), config)
        if changed:
            raise UserError(
                f"{output_dir} belongs to another configuration: {'; '.join(changed)}. "
                "Give the old values again, or another --output-dir."
            )


def _as_planned(old: Config, output_dir: Path, new: BlockManagerConfig) -> Config:
    """`old` with today's overlap_ratio, where it was one of half a block size when the folder was planned.

    Such a folder can be resumed with the file that made it, and with one that says the same today.
    """
    plan, settings = _known_plan(output_dir), old.block_manager
    if plan is None or not _halved(plan, settings):
        return old
    same_file = new.overlap_ratio == settings.overlap_ratio
    ratio = settings.overlap_ratio if same_file else settings.overlap_ratio / 2
    return old.model_copy(update={"block_manager": settings.model_copy(update={"overlap_ratio": ratio})})


def _halved(plan: Plan, config: BlockManagerConfig) -> bool:
    """Whether the plan's cells reach half as far into their neighbours as today's overlap_ratio means."""
    ratio, layout = config.overlap_ratio, plan.layout
    if layout is None or ratio == 0:
        return False
    return math.isclose(layout.cell_reach_m, layout.cell_half_edge_m * (1 + ratio), rel_tol=1e-9)


def differences(old: Config, new: Config, free: tuple[str, ...] = ()) -> list[str]:
    """`section.key old -> new` for every differing key, except those that are `free`."""
    changeable = (*changeable_keys(), *free)
    before, after = _flatten(config_to_json(old)), _flatten(config_to_json(new))
    keys = [key for key in before | after if before.get(key) != after.get(key) and not key.startswith(changeable)]
    return [f"{key} {_show(before.get(key))} -> {_show(after.get(key))}" for key in keys]


def load_output(output_dir: Path) -> tuple[Config, Plan]:
    """Configuration and plan of an output folder. Raises UserError if it is not one."""
    if not (output_dir / "config.json").is_file() or not (output_dir / "plan.json").is_file():
        missing = "config.json" if not (output_dir / "config.json").is_file() else "plan.json"
        raise UserError(
            f"{output_dir} is not an output folder of blocknerf: it has no {missing}. "
            "Make one with `blocknerf plan` or `blocknerf train`, or check the path."
        )
    return load_config(output_dir / "config.json", stored=True), read_plan(output_dir / "plan.json")


def open_scene(output_dir: Path, config: DatasetConfig, data_root: str | Path | None = None) -> Scene:
    """The scene of an output folder, from its old place or from `data_root`.

    Raises UserError if it is missing, is not the scene that the folder was made from, or is on a URL that no command on
    this machine has named.
    """
    known_root, known_hash = _read_scene_json(output_dir)
    if data_root is not None:
        folder = SharedFolder.at(data_root)
    else:
        folder = SharedFolder.named_by(output_dir / "scene.json", known_root, "--data-root")
    if folder.url is None and not folder.local.is_dir():
        where = "Say where it is now with --data-root."
        raise UserError(f"The scene of {output_dir} is no longer at {folder.local}. {where}")
    scene = _read(folder, config, _known_plan(output_dir))
    if scene_hash(scene) != known_hash:
        raise UserError(
            f"The scene in {folder.place} is not the one that {output_dir} was made from: images, cameras or poses "
            "differ. Give the original with --data-root, or train into another output folder."
        )
    return scene


def _read(folder: SharedFolder, config: DatasetConfig, plan: Plan | None) -> Scene:
    """The scene as used for training and testing; consistent with `plan`, if there is one."""
    folder.pull()
    if plan is None:
        return without_copies(read_scene(folder.local, config), config.test_every)
    scene = read_scene(folder.local, config, plan.world_offset_m)
    given = {name for block in plan.blocks for name in (*block.train_images, *block.test_images)}
    return without_copies(scene, config.test_every, given | {*plan.later_images})


def _known_plan(output_dir: Path) -> Plan | None:
    path = output_dir / "plan.json"
    return read_plan(path) if path.is_file() else None


def _placed(plan: Plan, scene: Scene) -> Plan:
    return replace(plan, geo_origin=scene.geo_origin, world_offset_m=scene.world_offset_m)


def write_config(output_dir: Path, config: Config) -> None:
    """Stores a configuration that differs in keys marked CHANGEABLE."""
    with planning(output_dir):
        write_json(output_dir / "config.json", config_to_json(config))


def _write_budget(output_dir: Path, budget: StoredBudget | None) -> None:
    """That of a folder without any is removed, unless something was learned by it."""
    if budget is not None:
        write_budget(output_dir, budget)
    elif not is_settled(output_dir):
        disk.unlink(output_dir / BUDGET, missing_ok=True)


def _write_origin(output_dir: Path, hash_of_scene: str, config: Config, data_root: str | Path) -> None:
    write_json(output_dir / "config.json", config_to_json(config))
    write_stored(
        output_dir / "scene.json", {"data_root": SharedFolder.at(data_root).place, "scene_hash": hash_of_scene}
    )


def _existing_plan(output_dir: Path, hash_of_scene: str, config: Config) -> Plan | None:
    if not (output_dir / "plan.json").is_file():
        return None
    plan = read_plan(output_dir / "plan.json")
    if plan.scene_hash != hash_of_scene or plan.layout is None:
        return None
    if not is_settled(output_dir) and plan.config_hash != planning_hash(config):
        return None
    log.info(f"The plan in {output_dir} is used again.")
    if _halved(plan, config.block_manager):
        ratio = config.block_manager.overlap_ratio
        log.info(
            "Its blocks reach %g block sizes into their neighbours, as overlap_ratio=%g meant when it was made.",
            ratio / 2,
            ratio,
        )
    return plan


def is_settled(output_dir: Path) -> bool:
    """Whether any block in the folder has been trained, so that configurations must match."""
    return (output_dir / "config.json").is_file() and _has_learned(output_dir)


def _has_learned(output_dir: Path) -> bool:
    return any(output_dir.glob("blocks/*/*.json"))


def _read_scene_json(output_dir: Path) -> tuple[str, str]:
    path = output_dir / "scene.json"
    remedy = "Run `blocknerf plan` into this folder again."
    reference = fitted(_SceneReference, read_stored(path, "scene reference", remedy), "scene reference", path, remedy)
    return reference.data_root, reference.scene_hash


@dataclass(frozen=True)
class _SceneReference:
    data_root: Text
    scene_hash: Text


def _flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for key, value in tree.items():
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def _show(value: Any) -> str:
    return "none" if value is None else str(value)
