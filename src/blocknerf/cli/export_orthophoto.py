"""`blocknerf export orthophoto`: a city from straight above, as a map."""

from pathlib import Path
from typing import Annotated

import tyro

from blocknerf.cli.place import Device, Place, State
from blocknerf.core.lock import locked_file
from blocknerf.core.logging import console


def export_orthophoto(
    out: tyro.conf.Positional[Path],
    file: Annotated[Path | None, tyro.conf.arg(name="out", metavar="FILE.tif")] = None,
    pixel: Annotated[float, tyro.conf.arg(metavar="METRES")] = 0.1,
    bounds: Annotated[tuple[float, float, float, float] | None, tyro.conf.arg(metavar="LEFT BOTTOM RIGHT TOP")] = None,
    top: Annotated[float | None, tyro.conf.arg(metavar="METRES")] = None,
    origin: Annotated[tuple[float, float] | None, tyro.conf.arg(metavar="LATITUDE LONGITUDE")] = None,
    drive: str | None = None,
    data_root: Place | None = None,
    state: State = "latest",
    device: Device = "auto",
) -> None:
    """Writes a georeferenced orthophoto (GeoTIFF): parallel rays from above, blended from all blocks near a pixel.

    x and y are the world's where its z points up, else those of the ground that blocks are laid out on; the file's
    tags ORIGIN_WORLD and AXES_WORLD say where that lies in the world. A scene of `blocknerf prepare` with GPS says
    where on Earth that is, and so can --origin; the file of another has a local coordinate system in metres.

    Example: blocknerf export orthophoto out --out site.tif --pixel 0.05 --origin 48.2083 16.3731

    Args:
        out: Output folder of `blocknerf train`.
        file: The picture to write, .tif; none: orthophoto.tif in the output folder.
        pixel: Edge of a pixel on the ground in metres.
        bounds: What it shows, in metres of its coordinate system; none: the cells of all blocks.
        top: Height at which rays begin, along up from the origin of the coordinate system; none: above what was
            captured, but below cameras that fly.
        origin: Latitude and longitude of the world's origin in degrees (WGS 84), where x is east, y north and z up;
            none: what the scene said when the city was trained.
        drive: Drive whose mean appearance the picture takes; none: the drive with most images.
        data_root: Where the scene lies now, if it has moved since training.
        state: Which state of each block: latest, best (in validation), or the JSON of one block's state, as in
            out/blocks/003/step_000500.json, beside the latest of all others.
        device: Where blocks are rendered: auto (a CUDA device where there is one), cpu, cuda or cuda:N.
    """
    from blocknerf.blocks.output import load_output, open_scene
    from blocknerf.city.city import City
    from blocknerf.export import orthophoto
    from blocknerf.runtime.cores import available_cores
    from blocknerf.runtime.threads import use_threads
    from blocknerf.scene.scene import GeoOrigin

    path = file or out / "orthophoto.tif"
    orthophoto.check_orthophoto_path(path)
    config, plan = load_output(out)
    city, layout = City.open(out, state=state, device=device), plan.ground()
    if drive is not None:
        city.require_drive(drive)
    frame = orthophoto.map_frame(layout, is_enu=city.manifest.geo_origin is not None)
    raster = orthophoto.raster_over(frame, layout, city_cells(plan, city), pixel, bounds, city.manifest.world_offset_m)
    crs = orthophoto.map_crs(raster, city.manifest.geo_origin if origin is None else GeoOrigin(*origin))
    if top is None:
        top_z_m = orthophoto.default_top_m(frame, open_scene(out, config.dataset, data_root))
    else:
        top_z_m = top - (raster.offset_m[2] if raster.is_world else 0.0)
    use_threads(available_cores(), city.worker)
    with locked_file(path, f"{path} is being written"):
        tiles = orthophoto.orthophoto_tiles(city, layout, raster, top_z_m, drive)
        orthophoto.write_orthophoto(path, raster, tiles, crs)
    line = f"Orthophoto: {path} ({raster.width} x {raster.height} pixels of {pixel:g} m, from {top_z_m:.4g} m)"
    console.print(line, soft_wrap=True, highlight=False, markup=False)


def city_cells(plan, city):
    """Centres of the cells of all trained blocks, on the plan's ground."""
    import numpy as np

    return np.array([cell for block in plan.blocks if block.id in city.ids for cell in block.cells_xy])
