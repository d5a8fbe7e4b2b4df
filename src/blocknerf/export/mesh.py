"""A city's surface as triangles: signed distances fused brick by brick, then marching cubes.

Signed distances as in Curless and Levoy (1996), on one lattice for the whole city. Every point of it uses only the
block that owns it, so that two blocks meet in one surface and never in two.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, UInt8
from rich.progress import track

from blocknerf.core.errors import UserError
from blocknerf.core.extras import Extra
from blocknerf.core.logging import console
from blocknerf.export.maps import InnerRegions, Maps
from blocknerf.runtime.cores import available_cores

measure = Extra("skimage.measure", "export", "A mesh")
sparse = Extra("scipy.sparse", "export", "A mesh")
csgraph = Extra("scipy.sparse.csgraph", "export", "A mesh")
BRICK = 32
"""Lattice steps along the edge of a brick; it has one point more, which its neighbour has as well."""


@dataclass(frozen=True, slots=True)
class TriangleMesh:
    """Corners counter-clockwise as seen from free space; world metres."""

    vertices: Float[np.ndarray, "vertices 3"]
    faces: Int[np.ndarray, "faces 3"]
    colours: UInt8[np.ndarray, "vertices 3"]


@dataclass(frozen=True, slots=True)
class Fusing:
    """How signed distances are fused.

    A lattice point is known from a weight of `least_weight` on; a picture that clearly sees a surface frontally and
    from near has weight 1. A ray whose spread is below `most_spread_voxels` selects the brick that it ends in.
    """

    voxel_m: float = 0.1
    truncation_voxels: float = 4.0
    least_weight: float = 0.01
    most_spread_voxels: float = 10.0


def require_mesh_tools() -> None:
    """Raises UserError if a package is missing that `extract_mesh` or `without_specks` needs."""
    measure.require()
    csgraph.require()


def extract_mesh(maps: Maps, regions: InnerRegions, fusing: Fusing) -> TriangleMesh:
    """The surface on which the maps agree.

    Bricks are fused one after the other; memory is that of the mesh. Raises UserError if no ray is sure enough.
    """
    bricks = wanted_bricks(maps, regions, fusing)
    if len(bricks) == 0:
        raise UserError(
            "The city is nowhere sure of a surface: no ray stops within "
            f"{fusing.most_spread_voxels * fusing.voxel_m:g} m. Train it for longer, or give a larger --voxel."
        )
    with ThreadPoolExecutor(available_cores()) as pool:
        parts = pool.map(lambda brick: _brick_mesh(measure, brick, maps, regions, fusing), bricks)
        found = [part for part in track(parts, "Fusing", len(bricks), console=console, transient=True) if part]
    if not found:
        raise UserError("The pictures agree on no surface. Train the city for longer, or give a larger --voxel.")
    return _welded(found, bricks, fusing.voxel_m)


def wanted_bricks(maps: Maps, regions: InnerRegions, fusing: Fusing) -> Int[np.ndarray, "bricks 3"]:
    """Bricks in or near which a sure ray ends, of the block that owns the place."""
    edge_m, reach_m = BRICK * fusing.voxel_m, fusing.truncation_voxels * fusing.voxel_m
    corners = np.stack(np.meshgrid(*[(-reach_m, reach_m)] * 3), -1).reshape(-1, 3)
    found = np.empty((0, 3), np.int64)
    for view in range(len(maps)):
        points, rows = maps.points_world(view)
        sure = maps.spreads_m[rows] <= fusing.most_spread_voxels * fusing.voxel_m
        points = points[sure]
        points = points[regions.owners(points) == maps.blocks[view]]
        around = np.floor((points[:, None] + corners) / edge_m).astype(np.int64).reshape(-1, 3)
        found = np.unique(np.concatenate([found, np.unique(around, axis=0)]), axis=0)
    return found


@dataclass(frozen=True, slots=True)
class _Part:
    """Triangles of one brick; `points` in lattice steps from the brick's corner."""

    brick: Int[np.ndarray, "3"]
    points: Float32[np.ndarray, "vertices 3"]
    faces: Int[np.ndarray, "faces 3"]
    colours: UInt8[np.ndarray, "vertices 3"]


def _brick_mesh(
    measure: Any, brick: Int[np.ndarray, "3"], maps: Maps, regions: InnerRegions, fusing: Fusing
) -> _Part | None:
    values, known, colours = fused_brick(brick, maps, regions, fusing)
    inside = known & (values <= 0)
    if not inside.any() or not (known & (values > 0)).any():
        return None
    points, faces, _, _ = measure.marching_cubes(np.where(known, values, 1), 0.0, gradient_direction="descent")
    cubes = np.minimum(points[faces].mean(axis=1).astype(np.int64), BRICK - 1)
    faces = faces[_known_cubes(known)[tuple(cubes.T)]]
    if len(faces) == 0:
        return None
    kept, faces = np.unique(faces, return_inverse=True)
    points = points[kept].astype(np.float32)
    return _Part(brick, points, faces.reshape(-1, 3), _colours_at(points, colours))


def fused_brick(
    brick: Int[np.ndarray, "3"], maps: Maps, regions: InnerRegions, fusing: Fusing
) -> tuple[Float32[np.ndarray, "n n n"], Bool[np.ndarray, "n n n"], Float32[np.ndarray, "n n n 3"]]:
    """Signed distances in truncations, which of them are known, and colours, at a brick's lattice points."""
    from blocknerf.export.fusion_numba import fuse

    low_world = brick * (BRICK * fusing.voxel_m)
    steps = np.arange(BRICK + 1) * fusing.voxel_m
    places = low_world + np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1)
    owners = regions.owners(places.reshape(-1, 3)).reshape(places.shape[:3])
    half_m = BRICK * fusing.voxel_m / 2
    seen = maps.may_see(low_world + half_m, half_m * 3**0.5) & np.isin(maps.blocks, np.unique(owners))
    values, weights, colour_weights = (np.zeros(owners.shape, np.float32) for _ in range(3))
    colours = np.zeros((*owners.shape, 3), np.float32)
    fuse(
        low_world,
        fusing.voxel_m,
        fusing.truncation_voxels * fusing.voxel_m,
        owners,
        np.flatnonzero(seen),
        maps.cam_from_world,
        maps.focal_px,
        maps.sizes,
        maps.first_rows,
        maps.blocks,
        maps.inverse_depths,
        maps.spreads_m,
        maps.cosines,
        maps.colours,
        values,
        weights,
        colours,
        colour_weights,
    )
    known = weights >= fusing.least_weight
    return values / weights.clip(min=1e-9), known, colours / colour_weights.clip(min=1e-9)[..., None]


def _known_cubes(known: Bool[np.ndarray, "n n n"]) -> Bool[np.ndarray, "m m m"]:
    """Which cubes have eight known corners."""
    along_x = known[1:] & known[:-1]
    along_xy = along_x[:, 1:] & along_x[:, :-1]
    return along_xy[:, :, 1:] & along_xy[:, :, :-1]


def _colours_at(
    points: Float32[np.ndarray, "n 3"], colours: Float32[np.ndarray, "m m m 3"]
) -> UInt8[np.ndarray, "n 3"]:
    """Points lie on edges of the lattice: between the colours at both ends."""
    low, high = np.floor(points).astype(int), np.ceil(points).astype(int)
    part = np.abs(points - low).max(axis=1, keepdims=True)
    mixed = (1 - part) * colours[tuple(low.T)] + part * colours[tuple(high.T)]
    return mixed.clip(0, 255).round().astype(np.uint8)


def _welded(parts: list[_Part], bricks: Int[np.ndarray, "bricks 3"], voxel_m: float) -> TriangleMesh:
    """One mesh of all bricks: a point on a lattice edge shared by two bricks appears once."""
    low = bricks.min(axis=0) * BRICK
    counts = (bricks.max(axis=0) + 1) * BRICK - low + 1
    keys, places = [], []
    for part in parts:
        cell = np.floor(part.points)
        off = (part.points > cell) @ np.array([1, 2, 4])
        lattice = part.brick * BRICK - low + cell.astype(np.int64)
        keys.append(((lattice[:, 0] * counts[1] + lattice[:, 1]) * counts[2] + lattice[:, 2]) * 8 + off)
        places.append((part.brick * BRICK + part.points.astype(float)) * voxel_m)
    _, first, rows = np.unique(np.concatenate(keys), return_index=True, return_inverse=True)
    starts = np.cumsum([0, *(len(part.points) for part in parts[:-1])])
    faces = rows[np.concatenate([part.faces + start for part, start in zip(parts, starts, strict=True)])]
    a, b, c = faces.T
    faces = faces[(a != b) & (b != c) & (c != a)]
    colours = np.concatenate([part.colours for part in parts])[first]
    return TriangleMesh(np.concatenate(places)[first], faces, colours)


def without_specks(mesh: TriangleMesh, least_m2: float) -> TriangleMesh:
    """Without the connected pieces whose area is below `least_m2`, and without points that no triangle has."""
    edges = np.concatenate([mesh.faces[:, :2], mesh.faces[:, 1:]])
    count = len(mesh.vertices)
    links = sparse.coo_array((np.ones(len(edges), bool), (edges[:, 0], edges[:, 1])), (count, count))
    piece_of_face = csgraph.connected_components(links, directed=False)[1][mesh.faces[:, 0]]
    areas = np.bincount(piece_of_face, face_areas_m2(mesh))
    faces = mesh.faces[areas[piece_of_face] >= least_m2]
    kept, rows = np.unique(faces, return_inverse=True)
    return TriangleMesh(mesh.vertices[kept], rows.reshape(-1, 3), mesh.colours[kept])


def face_areas_m2(mesh: TriangleMesh) -> Float[np.ndarray, " faces"]:
    a, b, c = mesh.vertices[mesh.faces].transpose(1, 0, 2)
    return np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2
