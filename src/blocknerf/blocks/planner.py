"""From a scene to a plan: place cells, claim images, merge small blocks, size the cubes.

Together with `city.selection` it is the documents' BlockManager.
"""

import functools
import hashlib
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from blocknerf.blocks.assignment import Assignment, assign_images, claim_images, find_neighbours
from blocknerf.blocks.extent import Cube, content_cube, object_cube, orbit_cube
from blocknerf.blocks.ground import GroundFrame, ground_frame
from blocknerf.blocks.image_visibility import ImageVisibility, focus_point, gather_sights
from blocknerf.blocks.junctions import place_at_junctions
from blocknerf.blocks.placement import Cells, Placement, place_cells
from blocknerf.blocks.plan import BlockSpec, Layout, Plan
from blocknerf.blocks.silhouettes import bounded_cube, silhouettes_of
from blocknerf.blocks.streets import StreetNetwork, streets_of_drives, streets_of_map
from blocknerf.blocks.surface import claim_surfaces, visible_ground
from blocknerf.core.config.block_manager import BlockManagerConfig
from blocknerf.core.config.config import Config
from blocknerf.core.config.dataset import DatasetConfig
from blocknerf.core.errors import UserError
from blocknerf.core.logging import log
from blocknerf.core.reading import read_bytes
from blocknerf.scene.scene import ImageRecord, Scene, poses_of, scene_hash, upright_poses_of
from blocknerf.scene.splits import split_images
from blocknerf.scene.street_map import WHAT, Node, StreetMap, read_street_map

_PLANNING_KEYS = {
    "dataset": ("type", "test_every"),
    "block_manager": (
        "placement",
        "block_size",
        "overlap_ratio",
        "min_images_per_block",
        "max_blocks",
        "divide_by",
        "streets_file",
    ),
}

_LEAST_SHARE = 0.1
"""Minimum radius of a single block, as a share of the distance to what is seen: rays end at a hundred radii."""
_MOST_LOOKED_THROUGH = 20_000
"""Maximum number of images whose points determine a block's cube; of more, every nth is used."""


def make_plan(scene: Scene, config: Config) -> Plan:
    """The places of blocks, the images of each, and the cube of each.

    The order of the scene's images does not matter. Moving the world rigidly moves the plan and changes no assignment
    (images whose camera stands on a border to within rounding excepted).

    Raises UserError if nothing can be trained, or there are more blocks than `block_manager.max_blocks`.
    """
    images = sorted(scene.images, key=lambda image: image.name)
    is_train = _training_rows(scene, images, config.dataset)
    poses = poses_of(images)
    frame = ground_frame(upright_poses_of(images))
    cameras = frame.to_ground(poses[:, :, 3])
    settings = config.block_manager
    train = np.flatnonzero(is_train).tolist()
    drives, names = [images[i].drive for i in train], [images[i].name for i in train]
    network = functools.partial(
        streets_of_drives, cameras, [image.drive for image in images], [image.name for image in images]
    )
    if settings.streets_file is not None:
        network = functools.partial(streets_of_map, *_street_map(scene, frame, settings.streets_file))
    place = functools.partial(_place, frame, cameras[train], drives, names, network)
    placement = place(settings)
    cells = placement.cells
    open_m = settings.block_size / 2
    sights = gather_sights(scene, images, frame, poses, open_m)
    if settings.divide_by == "surface":
        claims = claim_surfaces(cells, cameras[:, :2], visible_ground(scene, images, frame, open_m))
    else:
        claims = claim_images(cells, cameras[:, :2], sights)
    assignment = assign_images(placement, claims, is_train, settings.min_images_per_block)
    _check_number(len(assignment.members_of_block), settings, place)
    if len(assignment.members_of_block) == 1:
        in_ground = np.concatenate([frame.ground_from_world @ poses[:, :, :3], cameras[:, :, None]], axis=2)
        surrounded = _surrounded_cube(scene, images, is_train, in_ground, sights)
        cubes = [surrounded or _whole_cube(frame, cameras, cells, sights)]
    else:
        cubes = _cubes(cameras, placement, assignment, sights)
    blocks = _describe(images, is_train, frame, cameras, placement, assignment, cubes)
    layout = Layout(
        origin_world=_triple(frame.origin_world),
        axes_world=tuple(_triple(axis) for axis in frame.ground_from_world),
        cell_shape=cells.shape,
        cell_half_edge_m=cells.half_edge_m,
        cell_reach_m=cells.reach_m,
    )
    merged = tuple((block_id(a), block_id(b), n) for a, b, n in assignment.merged)
    return Plan(
        scene_hash(scene),
        planning_hash(config),
        blocks,
        merged,
        layout,
        geo_origin=scene.geo_origin,
        world_offset_m=scene.world_offset_m,
    )


def planning_hash(config: Config) -> str:
    """Hash of the part of a configuration on which a plan depends."""
    chosen: dict[str, Any] = {
        name: {key: getattr(getattr(config, name), key) for key in keys} for name, keys in _PLANNING_KEYS.items()
    }
    if config.dataset.ground is not None:
        chosen["ground"] = config.dataset.ground
    if config.block_manager.streets_file is not None:
        chosen["streets"] = hashlib.sha256(read_bytes(Path(config.block_manager.streets_file), WHAT)).hexdigest()
    return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()[:16]


def block_id(number: int) -> str:
    return f"{number:03d}"


def _training_rows(scene: Scene, images: Sequence[ImageRecord], config: DatasetConfig) -> np.ndarray:
    if not images:
        raise UserError(
            f"No image of {scene.root} can be used ({len(scene.skipped)} were skipped"
            + (f", the first: {scene.skipped[0][0]}: {scene.skipped[0][1]}" if scene.skipped else "")
            + "), so there is no block to plan."
        )
    _, test = split_images(scene, config.test_every)
    test_ids = {image.id for image in test}
    return np.array([image.id not in test_ids for image in images])


def _street_map(scene: Scene, frame: GroundFrame, file: str) -> tuple[StreetMap, dict[Node, Float[np.ndarray, "2"]]]:
    """The map, and the places of its nodes on the ground. Raises UserError if the scene's place on Earth is unknown."""
    if scene.geo_origin is None:
        raise UserError(
            f"{file} says where streets lie on Earth, but {scene.root} does not say where it lies itself. Give its "
            "geo_origin (latitude and longitude) in blocknerf_scene.json, or leave block_manager.streets_file out: "
            "junctions then follow from the drives."
        )
    streets = read_street_map(Path(file))
    enu_m = streets.enu_m(scene.geo_origin)
    world = np.column_stack([np.array(list(enu_m.values())), np.full(len(enu_m), scene.centers_world[:, 2].mean())])
    places_xy = frame.to_ground(world - np.array(scene.world_offset_m) * (1, 1, 0))[:, :2]
    return streets, dict(zip(enu_m, places_xy, strict=True))


def _place(
    frame: GroundFrame,
    cameras: np.ndarray,
    drives: list[str],
    names: list[str],
    network: Callable[[float], StreetNetwork],
    settings: BlockManagerConfig,
) -> Placement:
    """Where blocks could stand for these training cameras [n, 3] in the ground frame."""
    if settings.placement == "junctions" and settings.max_blocks > 1:
        streets = network(settings.block_size)
        placement = place_at_junctions(streets, cameras[:, :2], settings)
        if placement is not None:
            return placement
        log.info("No drives cross each other or themselves: blocks are placed along the drives.")
    return Placement.of_cells(place_cells(frame, cameras[:, :2], drives, names, settings))


def _check_number(number: int, config: BlockManagerConfig, place: Callable[[BlockManagerConfig], Placement]) -> None:
    if number <= config.max_blocks:
        return
    size = config.block_size
    while len(place(config.model_copy(update={"block_size": size}))) > config.max_blocks:
        size = _two_digits_up(1.1 * size)
    raise UserError(
        f"block_manager.block_size={config.block_size:g} makes {number} blocks and block_manager.max_blocks is "
        f"{config.max_blocks}; give block_size={size:g}, or max_blocks={number}."
    )


def _two_digits_up(value: float) -> float:
    step = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.ceil(value / step) * step:.3g}")


def _surrounded_cube(
    scene: Scene,
    images: Sequence[ImageRecord],
    is_train: np.ndarray,
    in_ground: Float[np.ndarray, "n 3 4"],
    sights: ImageVisibility,
) -> Cube | None:
    """Of a single block around an object that is cut out of its pictures, or around what cameras surround where no
    sparse points say more. `in_ground` are ground_from_cam of the images."""
    is_object = all(image.is_cut_out for image in images)
    if is_object and (focus := focus_point(in_ground[is_train])) is not None:
        train = np.flatnonzero(is_train).tolist()
        bounded = bounded_cube(silhouettes_of(scene, [images[i] for i in train], in_ground[is_train]), focus)
        if bounded is not None:
            return bounded
        log.info(
            "The photographs are cut out, but they do not tell where the object ends: most of them show a part of it, "
            "or their silhouettes contradict each other. Rays are not limited to it."
        )
    if len(scene.points_world) or sights.frusta is None:
        return None
    if not is_object:
        return orbit_cube(in_ground)
    sample = _enough(np.arange(len(in_ground)))
    return object_cube(in_ground[sample], sights.frusta.rays_of(sample))


def _whole_cube(frame: GroundFrame, cameras: np.ndarray, cells: Cells, sights: ImageVisibility) -> Cube:
    """Of a single block around everything."""
    climb_m = float(np.ptp(cameras[:, 2]))  # of a drone that goes straight up it is all there is
    half_m = np.array(frame.extent_m) / 2 + max(*frame.extent_m, climb_m, 1e-3 * cells.half_edge_m) / 2
    places = sights.of(_enough(np.arange(len(cameras))), -half_m, half_m)
    cube = content_cube(cameras, places, -half_m, half_m)
    return Cube(cube.center, max(cube.radius_m, _LEAST_SHARE * _seen_m(sights)))


def _cubes(cameras: np.ndarray, placement: Placement, assignment: Assignment, sights: ImageVisibility) -> list[Cube]:
    cells, cubes = placement.cells, []
    for block, members in enumerate(assignment.members_of_block):
        covered = [*placement.cells_of(members), *placement.shared_by(members)]
        centers_xy, belongs = cells.centers_xy[covered], assignment.images_of_block[block]
        low, high = centers_xy.min(axis=0) - cells.reach_m, centers_xy.max(axis=0) + cells.reach_m
        cubes.append(content_cube(cameras[belongs], sights.of(_enough(belongs), low, high), low, high))
    return cubes


def _seen_m(sights: ImageVisibility) -> float:
    """Typical distance of what images see."""
    return 0.0 if sights.frusta is None else float(np.median(sights.frusta.depths_m))


def _enough(images: np.ndarray) -> np.ndarray:
    """Evenly chosen: what they see has the same percentiles."""
    return images[:: len(images) // _MOST_LOOKED_THROUGH + 1]


def _describe(
    images: Sequence[ImageRecord],
    is_train: np.ndarray,
    frame: GroundFrame,
    cameras: np.ndarray,
    placement: Placement,
    assignment: Assignment,
    cubes: list[Cube],
) -> tuple[BlockSpec, ...]:
    ids = [block_id(members[0]) for members in assignment.members_of_block]
    is_street = placement.cells.shape == "street"
    neighbours = find_neighbours(placement, assignment, is_train)
    blocks = []
    for block, members in enumerate(assignment.members_of_block):
        rows = assignment.images_of_block[block]
        train, test = rows[is_train[rows]], rows[~is_train[rows]]
        sites_xy = placement.sites_xy[list(members)]
        stands_xy = sites_xy[0] if is_street else sites_xy.mean(axis=0)  # at the junction, whatever joins
        anchor = np.append(stands_xy, cameras[train, 2].mean())
        blocks.append(
            BlockSpec(
                id=ids[block],
                center_world=_to_world(frame, cubes[block].center),
                radius_m=_tidy(cubes[block].radius_m),
                bounded=cubes[block].bounded,
                anchor_world=_to_world(frame, anchor),
                train_images=tuple(images[i].id for i in train.tolist()),
                test_images=tuple(images[i].id for i in test.tolist()),
                neighbours=tuple(ids[other] for other in np.flatnonzero(neighbours[block]).tolist()),
                cells_xy=_centers(placement, placement.cells_of(members)),
                shared_xy=_centers(placement, placement.shared_by(members)),
            )
        )
    return tuple(blocks)


def _centers(placement: Placement, cells: list[int]) -> tuple[tuple[float, float], ...]:
    return tuple((_tidy(x), _tidy(y)) for x, y in placement.cells.centers_xy[cells])


def _to_world(frame: GroundFrame, point: np.ndarray) -> tuple[float, float, float]:
    return _triple(frame.to_world(point[None])[0])


def _triple(point: np.ndarray) -> tuple[float, float, float]:
    return (_tidy(point[0]), _tidy(point[1]), _tidy(point[2]))


def _tidy(value: float) -> float:
    """Ten digits: below them stands only rounding that differs between machines."""
    return float(f"{value:.10g}")
