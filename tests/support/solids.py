"""Solids that blocks could have learned exactly, cameras around them, and what the blocks show to these."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from blocknerf.blocks.plan import Layout
from blocknerf.core.camera import Camera
from blocknerf.core.types import RayBatch
from blocknerf.export.maps import InnerRegions, Maps, keep, new_maps
from blocknerf.export.surfaces import surface_map
from blocknerf.export.voronoi_cells import VoronoiCells
from blocknerf.rendering.volume import CompositedRays

THIN_M = 0.01
GROUND = Layout((0.0, 0.0, 0.0), ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)), "square", 4.0, 4.0)


class Solid:
    """Stops every ray at `hit(origins, directions)` metres, nan for never; coloured by place."""

    def __init__(self, hit: Callable[[np.ndarray, np.ndarray], np.ndarray]):
        self.radius_m = 2.0
        self._hit = hit

    def composite(self, rays: RayBatch, codes, rng):
        distance_m = torch.from_numpy(self._hit(rays.origins.double().numpy(), rays.directions.double().numpy()))
        hits = ~distance_m.isnan()
        middle = torch.where(hits, distance_m, 100.0)[:, None] / self.radius_m
        edges = torch.cat([middle - THIN_M / 2, middle + THIN_M / 2], 1).float()
        weights = hits.float()[:, None]
        rgb = colours_at(rays.origins + middle * self.radius_m * rays.directions).float()
        none = torch.zeros_like(weights)
        return rgb, CompositedRays(none, weights[:, 0], edges, edges, weights, edges, weights)


def colours_at(places):
    return (0.5 + 0.2 * places).clip(0, 1)


def ball(radius_m: float, center=(0.0, 0.0, 0.0)) -> Solid:
    def hit(origins, directions):
        to_center = np.array(center) - origins
        along = (to_center * directions).sum(1)
        inside = radius_m**2 - (to_center**2).sum(1) + along**2
        with np.errstate(invalid="ignore"):
            return along - np.sqrt(np.where(inside > 0, inside, np.nan))

    return Solid(hit)


def poses_around(count: int, away_m: float) -> np.ndarray:
    """world_from_cam of cameras on a sphere, evenly, that look at the origin."""
    number = np.arange(count) + 0.5
    z, turn = 1 - 2 * number / count, np.pi * (1 + 5**0.5) * number
    centers = away_m * np.stack([np.sqrt(1 - z**2) * np.cos(turn), np.sqrt(1 - z**2) * np.sin(turn), z], -1)
    forward = -centers / away_m
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    return np.stack([right, np.cross(forward, right), forward, centers], -1)


def regions_of(*sites_xy: tuple[float, float]) -> InnerRegions:
    """A block at each site, in cubes that hold everything."""
    sites = np.array(sites_xy, float)
    ids = tuple(f"{number:03d}" for number in range(len(sites)))
    cubes = np.append(np.zeros((len(sites), 3)), np.full((len(sites), 1), 10.0), axis=1)
    return InnerRegions(VoronoiCells(ids, GROUND, sites, np.arange(len(sites))), cubes)


def maps_of(folder: Path, solids: list[Solid], views: int = 24, width: int = 64) -> Maps:
    """Each solid is a block, seen by the same cameras."""
    camera = Camera("PINHOLE", width, width, (1.2 * width, 1.2 * width, width / 2, width / 2))
    poses = poses_around(views, 3.0)
    blocks = np.repeat(np.arange(len(solids)), views)
    maps = new_maps(folder, [camera] * len(blocks), np.tile(poses, (len(solids), 1, 1)), blocks)
    for view, block in enumerate(blocks):
        keep(maps, view, surface_map(solids[block], camera, poses[view % views]))
    return maps
