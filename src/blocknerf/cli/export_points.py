"""`blocknerf export points`: a city's surface as a point cloud."""

from pathlib import Path
from typing import Annotated

import tyro

from blocknerf.cli.place import Device, Place, State
from blocknerf.core.errors import UserError
from blocknerf.core.logging import console


def export_points(
    out: tyro.conf.Positional[Path],
    file: Annotated[Path | None, tyro.conf.arg(name="out", metavar="FILE.ply")] = None,
    spacing: Annotated[float, tyro.conf.arg(metavar="METRES")] = 0.05,
    least_views: int = 2,
    tolerance: Annotated[float, tyro.conf.arg(metavar="SHARE")] = 0.02,
    longest_side: Annotated[int, tyro.conf.arg(metavar="PIXELS")] = 640,
    views: int = 200,
    data_root: Place | None = None,
    state: State = "latest",
    device: Device = "auto",
) -> None:
    """Writes points on the city's surface as PLY, in metres, with colours and normals.

    They come from the depth that every block shows to its training cameras. A point is kept if its block is sure of it
    and other pictures of the block see it at the same place. Each block contributes only its inner region; borders are
    half-way between blocks.

    Example: blocknerf export points out --out street.ply --spacing 0.05

    Args:
        out: Output folder of `blocknerf train`.
        file: The point cloud to write. By default points.ply in the output folder.
        spacing: Points within a cube with this edge, in metres, become one.
        least_views: Number of other pictures that must see a point.
        tolerance: Maximum difference of their depths, as a share of the depth.
        longest_side: Maximum length of the longer side of the rendered depth, in pixels.
        views: Maximum number of training images per block from which depth is rendered, chosen evenly.
        data_root: Location of the scene, if it has moved since training.
        state: Which state of each block is used: latest, best (by validation), or the JSON file of one block's state,
            such as out/blocks/003/step_000500.json, with the latest of all others.
        device: Where blocks are rendered: auto (a CUDA device if there is one), cpu, cuda or cuda:N.
    """
    from blocknerf.city.manifest import read_manifest
    from blocknerf.cli.export_maps import city_maps
    from blocknerf.core.ply import write_points
    from blocknerf.export.points import Agreement, extract_points
    from blocknerf.export.world_offset import write_world_offset

    path = file or out / "points.ply"
    if path.suffix.lower() != ".ply":
        raise UserError(f"The point cloud {path} must end in .ply.")
    if not (0 < spacing < float("inf") and least_views >= 0 and 0 < tolerance < 1):
        raise UserError(
            f"--spacing {spacing:g} must be above 0, --least-views {least_views} not below 0, and --tolerance "
            f"{tolerance:g} between 0 and 1."
        )
    with city_maps(out, path, longest_side, views, data_root, state, device) as (maps, regions):
        cloud = extract_points(maps, regions, Agreement(spacing, least_views, tolerance))
        write_points(path, cloud.places, cloud.colours, cloud.normals)
        write_world_offset(path, read_manifest(out).world_offset_m)
    console.print(f"Points: {path} ({len(cloud.places)})", soft_wrap=True, highlight=False, markup=False)
