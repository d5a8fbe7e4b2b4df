"""A city from straight above as a georeferenced picture: with parallel rays nothing leans."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from rich.progress import track

from blocknerf.blocks.ground import GroundFrame
from blocknerf.blocks.plan import Layout
from blocknerf.city.city import City, composite
from blocknerf.city.pictures import to_bytes
from blocknerf.core.errors import UserError
from blocknerf.core.extras import Extra
from blocknerf.core.files import write_by_library
from blocknerf.core.logging import console, log
from blocknerf.core.types import Appearance, RayBatch
from blocknerf.scene.scene import NO_OFFSET, GeoOrigin, Offset, Scene

rasterio = Extra("rasterio", "export", "An orthophoto")
windows = Extra("rasterio.windows", "export", "An orthophoto")
TILE_PX = 256
LARGEST_SIDE_PX = 65536
LEVEL = 0.999
"""Cosine between the ground's up and the world's z from which the world counts as east, north, up."""
LEAST_SHARE = 1 / 256
"""Share of a tile's pixels below which a block is not rendered."""
LOCAL_CRS = 'LOCAL_CS["blocknerf, metres",UNIT["metre",1],AXIS["Easting",EAST],AXIS["Northing",NORTH]]'


@dataclass(frozen=True, slots=True)
class Raster:
    """North-up pixels over `frame`'s x and y; the outer corner of the first pixel is at `left_m`, `top_m`.

    `offset_m` leads from the scene's coordinates to the capture's (see scene/world_offset.py).
    """

    frame: GroundFrame
    left_m: float
    top_m: float
    pixel_m: float
    width: int
    height: int
    offset_m: Offset = NO_OFFSET

    def map_corner_m(self) -> tuple[float, float]:
        """The corner in the coordinates of the map: the capture's own, where the frame is the world's."""
        x, y = (self.frame.ground_from_world @ np.array(self.offset_m))[:2] if self.is_world else (0.0, 0.0)
        return self.left_m + float(x), self.top_m + float(y)

    @property
    def is_world(self) -> bool:
        return bool(np.array_equal(self.frame.ground_from_world, np.eye(3)))

    def xy_m(self, column: Float[np.ndarray, "*n"], row: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n 2"]:
        """On the ground, of a point of the picture; pixel centres at half integers."""
        return np.stack([self.left_m + self.pixel_m * column, self.top_m - self.pixel_m * row], -1)


def check_orthophoto_path(path: Path) -> None:
    """Raises UserError for another ending than that of a GeoTIFF, or without rasterio; before anything is rendered."""
    rasterio.require()
    if path.suffix.lower() not in (".tif", ".tiff"):
        raise UserError(f"The orthophoto {path} must end in .tif.")


def default_top_m(frame: GroundFrame, scene: Scene) -> float:
    """Height at which rays begin: a metre above nearly all points of the capture, or half-way from there to flying
    cameras.

    Space near cameras is seen by few of them, and is hazy.
    """
    cameras_m = float(np.quantile(frame.to_ground(scene.centers_world)[:, 2], 0.05))
    if len(scene.points_world) == 0:
        return cameras_m
    points_m = float(np.quantile(frame.to_ground(scene.points_world)[:, 2], 0.99)) + 1
    return max(points_m, (points_m + cameras_m) / 2)


def map_frame(layout: Layout, is_enu: bool = False) -> GroundFrame:
    """The world's x and y if its z points up, as by definition in a world that `is_enu` (has a GeoOrigin).

    Else those of the plan's ground.
    """
    frame = layout.frame()
    if is_enu or frame.ground_from_world[2, 2] >= LEVEL:
        return GroundFrame(np.zeros(3), np.eye(3), frame.extent_m)
    return frame


def raster_over(
    frame: GroundFrame,
    layout: Layout,
    cells_xy: Float[np.ndarray, "n 2"],
    pixel_m: float,
    bounds_m: tuple[float, float, float, float] | None = None,
    offset_m: Offset = NO_OFFSET,
) -> Raster:
    """Over `bounds_m` (left, bottom, right, top of the map), else over the cells of all blocks; edges at whole pixels.

    Raises UserError for empty bounds, pixels that are no length, or more than LARGEST_SIDE_PX of them.
    """
    if not (math.isfinite(pixel_m) and pixel_m > 0):
        raise UserError(f"--pixel {pixel_m:g}: give the edge of a pixel in metres, above 0.")
    if bounds_m is None:
        steps = layout.cell_half_edge_m * np.array([(x, y, 0.0) for x in (-1, 1) for y in (-1, 1)])
        corners = np.append(cells_xy, np.zeros((len(cells_xy), 1)), axis=1)[:, None] + steps
        xy = frame.to_ground(layout.frame().to_world(corners.reshape(-1, 3)))[:, :2]
        bounds_m = (*xy.min(axis=0).tolist(), *xy.max(axis=0).tolist())
    elif np.array_equal(frame.ground_from_world, np.eye(3)):
        east, north = offset_m[:2]
        bounds_m = (bounds_m[0] - east, bounds_m[1] - north, bounds_m[2] - east, bounds_m[3] - north)
    left, bottom, right, top = bounds_m
    if not (left < right and bottom < top):
        raise UserError(f"--bounds {left:g} {bottom:g} {right:g} {top:g} hold nothing; give LEFT BOTTOM RIGHT TOP.")
    low_x, low_y = math.floor(left / pixel_m + 1e-6), math.floor(bottom / pixel_m + 1e-6)
    high_x, high_y = math.ceil(right / pixel_m - 1e-6), math.ceil(top / pixel_m - 1e-6)
    width, height = high_x - low_x, high_y - low_y
    if max(width, height) > LARGEST_SIDE_PX:
        raise UserError(
            f"An orthophoto of {width} x {height} pixels was asked for; neither side may have more than "
            f"{LARGEST_SIDE_PX}. Give a larger --pixel or smaller --bounds."
        )
    return Raster(frame, low_x * pixel_m, high_y * pixel_m, pixel_m, width, height, offset_m)


def rays_from_above(raster: Raster, first: tuple[int, int], size: tuple[int, int], top_z_m: float) -> RayBatch:
    """Parallel rays down through the pixels of a tile (`first` column and row, `size` width and height), row-major.

    They begin at the height `top_z_m` of the raster's frame.
    """
    columns, rows = np.meshgrid(first[0] + np.arange(size[0]) + 0.5, first[1] + np.arange(size[1]) + 0.5)
    xy = raster.xy_m(columns.ravel(), rows.ravel())
    origins = raster.frame.to_world(np.append(xy, np.full((len(xy), 1), top_z_m), axis=1))
    down = -raster.frame.ground_from_world[2]
    count = len(origins)
    return RayBatch(
        torch.from_numpy(origins.astype(np.float32)),
        torch.from_numpy(down.astype(np.float32)).expand(count, -1),
        torch.full((count,), -1, dtype=torch.int64),
        torch.full((count,), raster.pixel_m / math.sqrt(12) / max(top_z_m, 1.0)),
    )


def orthophoto_tiles(
    city: City, layout: Layout, raster: Raster, top_z_m: float, drive: str | None
) -> Iterator[tuple[tuple[int, int], UInt8[np.ndarray, "h w 4"]]]:
    """(first column and row, red green blue opacity) of every tile.

    Every pixel is blended from the blocks whose cells are near, as in a city divided by surface: no tile shows.
    """
    by_surface = city.with_blending(replace(city.manifest, divide_by="surface"), city.ids)
    for row in range(0, raster.height, TILE_PX):
        for column in range(0, raster.width, TILE_PX):
            size = min(TILE_PX, raster.width - column), min(TILE_PX, raster.height - row)
            rays = rays_from_above(raster, (column, row), size, top_z_m)
            near = dict.fromkeys(_near(by_surface, layout, rays), 1.0)
            center = rays.origins.double().mean(0)
            picture = composite(by_surface.layers(rays, center, Appearance(drive=drive), weights=near))
            parts = picture.rgb, picture.opacity[:, None].expand(-1, 3)
            rgb, opacity = (to_bytes(part.reshape(size[1], size[0], 3)) for part in parts)
            yield (column, row), np.concatenate([rgb, opacity[..., :1]], axis=2)


def _near(city: City, layout: Layout, rays: RayBatch) -> list[str]:
    """Blocks that have LEAST_SHARE of any pixel, by the inverse distance of the pixel from their cells."""
    xy = layout.frame().to_ground(rays.origins.double().numpy())[:, :2]
    distances = np.stack([layout.cells(block.cells_xy).nearest(xy)[1] for block in city.blocks])
    shares = (distances.min(axis=0) / distances.clip(min=1e-6)) ** city.manifest.blend_power
    return [block.id for block, share in zip(city.blocks, shares.max(axis=1), strict=True) if share >= LEAST_SHARE]


def map_crs(raster: Raster, origin: GeoOrigin | None) -> str:
    """Coordinate system of the picture: metres around `origin` if given, else a local one.

    A transverse Mercator projection around the origin is its plane of east and north, to a centimetre within ten
    kilometres. Raises UserError for an origin of a world whose x, y and z are not east, north and up.
    """
    if origin is None:
        log.info(
            "Nobody said where on Earth this city lies: the map has a local coordinate system in metres. With --origin "
            "LATITUDE LONGITUDE of the world's origin it lies there."
        )
        return LOCAL_CRS
    if not np.array_equal(raster.frame.ground_from_world, np.eye(3)):
        raise UserError("--origin needs a world whose z points up, and that of this one does not.")
    place = f"+lat_0={origin.latitude_deg!r} +lon_0={origin.longitude_deg!r}"
    return f"+proj=tmerc {place} +k=1 +x_0=0 +y_0=0 +datum=WGS84 +units=m +no_defs"


def write_orthophoto(
    path: Path,
    raster: Raster,
    tiles: Iterator[tuple[tuple[int, int], UInt8[np.ndarray, "h w 4"]]],
    crs: str,
) -> None:
    """A tiled GeoTIFF of 8 bits, with opacity; tile by tile, so that memory does not grow with the picture."""
    left_m, top_m = raster.map_corner_m()
    transform = rasterio.Affine(raster.pixel_m, 0, left_m, 0, -raster.pixel_m, top_m)
    profile: dict[str, Any] = {
        "driver": "GTiff",
        "width": raster.width,
        "height": raster.height,
        "count": 4,
        "dtype": "uint8",
        "tiled": True,
        "blockxsize": TILE_PX,
        "blockysize": TILE_PX,
        "compress": "deflate",
        "photometric": "rgb",
        "alpha": "unspecified",
        "crs": crs,
        "transform": transform,
        "bigtiff": "if_safer",
    }
    count = math.ceil(raster.width / TILE_PX) * math.ceil(raster.height / TILE_PX)

    def write(temporary: Path) -> None:
        with rasterio.open(temporary, "w", **profile) as file:
            file.update_tags(
                ORIGIN_WORLD=_numbers(raster.frame.origin_world + (NO_OFFSET if raster.is_world else raster.offset_m)),
                AXES_WORLD=_numbers(raster.frame.ground_from_world),
            )
            for (column, row), rgba in track(tiles, "Rendering", count, console=console, transient=True):
                file.write(rgba.transpose(2, 0, 1), window=windows.Window(column, row, rgba.shape[1], rgba.shape[0]))

    write_by_library(path, write)


def _numbers(array: np.ndarray) -> str:
    return " ".join(f"{value:.12g}" for value in array.ravel())
