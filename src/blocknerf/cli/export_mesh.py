"""`blocknerf export mesh`: a city's surface as triangles."""

from pathlib import Path
from typing import Annotated

import tyro

from blocknerf.cli.place import Device, Place, State
from blocknerf.core.errors import UserError
from blocknerf.core.logging import console


def export_mesh(
    out: tyro.conf.Positional[Path],
    file: Annotated[Path | None, tyro.conf.arg(name="out", metavar="FILE.ply|FILE.glb")] = None,
    voxel: Annotated[float, tyro.conf.arg(metavar="METRES")] = 0.1,
    least_weight: float = 0.01,
    smallest_piece: Annotated[float, tyro.conf.arg(metavar="M2")] = 1.0,
    longest_side: Annotated[int, tyro.conf.arg(metavar="PIXELS")] = 640,
    views: int = 200,
    data_root: Place | None = None,
    state: State = "latest",
    device: Device = "auto",
) -> None:
    """Writes the city's surface as one coloured mesh in metres.

    Every block's depth is rendered from its training cameras and fused into signed distances. Marching cubes find the
    surface where they are zero. Each block contributes only its inner region; borders are half-way between blocks.

    Example: blocknerf export mesh out --out street.glb --voxel 0.1

    Args:
        out: Output folder of `blocknerf train`.
        file: The mesh to write, .ply or .glb. By default mesh.ply in the output folder.
        voxel: Edge of a voxel in metres, best about the size of a pixel on the surface.
        least_weight: How well a place must be known. A picture that clearly sees a surface frontally and from near
            counts 1. Lower values give more surface, but less accurate.
        smallest_piece: Connected pieces with less area than this, in square metres, are dropped.
        longest_side: Maximum length of the longer side of the rendered depth, in pixels.
        views: Maximum number of training images per block from which depth is rendered, chosen evenly.
        data_root: Location of the scene, if it has moved since training.
        state: Which state of each block is used: latest, best (by validation), or the JSON file of one block's state,
            such as out/blocks/003/step_000500.json, with the latest of all others.
        device: Where blocks are rendered: auto (a CUDA device if there is one), cpu, cuda or cuda:N.
    """
    from blocknerf.city.manifest import read_manifest
    from blocknerf.cli.export_maps import city_maps
    from blocknerf.export.mesh import Fusing, extract_mesh, without_specks
    from blocknerf.export.mesh_file import check_mesh_path, write_mesh
    from blocknerf.export.world_offset import write_world_offset

    path = file or out / "mesh.ply"
    check_mesh_path(path)
    if not (0 < voxel < float("inf") and 0 < least_weight < float("inf")):
        raise UserError(f"--voxel {voxel:g} and --least-weight {least_weight:g} must be above 0.")
    with city_maps(out, path, longest_side, views, data_root, state, device) as (maps, regions):
        fused = extract_mesh(maps, regions, Fusing(voxel, least_weight=least_weight))
        mesh = without_specks(fused, smallest_piece)
        if len(mesh.faces) == 0:
            raise UserError(
                f"No piece of the surface is as large as {smallest_piece:g} square metres (--smallest-piece)."
            )
        write_mesh(path, mesh, regions.voronoi_cells.frame)
        write_world_offset(path, read_manifest(out).world_offset_m)
    line = f"Mesh: {path} ({len(mesh.vertices)} points, {len(mesh.faces)} triangles)"
    console.print(line, soft_wrap=True, highlight=False, markup=False)
