"""A mesh as PLY or GLB."""

from pathlib import Path

import numpy as np

from blocknerf.blocks.ground import GroundFrame
from blocknerf.core.errors import UserError
from blocknerf.core.extras import Extra
from blocknerf.core.files import write_bytes
from blocknerf.core.ply import write_points
from blocknerf.export.mesh import TriangleMesh, require_mesh_tools

ENDINGS = (".ply", ".glb")
trimesh = Extra("trimesh", "export", "GLB")


def check_mesh_path(path: Path) -> None:
    """Raises UserError for another ending or a missing package, before anything is rendered."""
    if path.suffix.lower() not in ENDINGS:
        raise UserError(f"The mesh {path} must end in .ply or .glb.")
    require_mesh_tools()
    if path.suffix.lower() == ".glb":
        trimesh.require()


def write_mesh(path: Path, mesh: TriangleMesh, frame: GroundFrame) -> None:
    """PLY and GLB hold world coordinates; in GLB a node above them turns `frame`'s up to glTF's, +Y."""
    if path.suffix.lower() == ".ply":
        write_points(path, mesh.vertices, mesh.colours, faces=mesh.faces)
        return
    x, y, up = frame.ground_from_world
    upright = np.eye(4)
    upright[:3, :3] = np.stack([x, up, -y])
    body = trimesh.Trimesh(mesh.vertices, mesh.faces, vertex_colors=mesh.colours, process=False)
    scene = trimesh.Scene()
    scene.add_geometry(body, node_name="city", geom_name="city", transform=upright)
    write_bytes(path, scene.export(file_type="glb"))
