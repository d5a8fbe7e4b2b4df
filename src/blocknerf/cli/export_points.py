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

    They come from the depth that every block shows to its training cameras. A point stays where its block is sure of
    it and other pictures of the block see it at the same place. Each block speaks for its own inner region alone;
    borders lie half-way between blocks.

    Example: blocknerf export points out --out street.ply --spacing 0.05

    Args:
        out: Output folder of `blocknerf train`.
        file: The point cloud to write; none: points.ply in the output folder.
        spacing: Points in a cube of this edge, in metres, become one.
        least_views: Other pictures that must see a point.
        tolerance: How far their depths may differ, as a share of the depth.
        longest_side: Longer side of the rendered depth in pixels, at most.
        views: Training images of a block that its depth is rendered from, at most; evenly chosen.
        data_root: Where the scene lies now, if it has moved since training.
        state: Which state of each block: latest, best (in validation), or the JSON of one block's state, as in
            out/blocks/003/step_000500.json, beside the latest of all others.
        device: Where blocks are rendered: auto (a CUDA device where there is one), cpu, cuda or cuda:N.
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
