"""The files of a synthetic scene: pictures, masks, depth, a COLMAP text model, and the sidecar."""

from pathlib import Path

import numpy as np
from PIL import Image

from blocknerf.core.camera import Camera
from blocknerf.core.files import write_array, write_json, write_picture
from blocknerf.scene import colmap_writer
from blocknerf.scene.colmap_writer import ModelImage, ModelPoints
from blocknerf.scene.readers.sidecar import SIDECAR_NAME, SIDECAR_VERSION, read_sidecar
from blocknerf.synth.sparse import Shot, SparsePoints

MARKER = "synth.json"


def files_of(root: Path) -> set[str]:
    """The names of all files of the city in `root`, according to the images in its sidecar."""
    names = read_sidecar(root).images
    model = {f"sparse/0/{part}.txt" for part in ("cameras", "images", "points3D")}
    pictures = {file for name in names for file in (f"images/{name}", depth_file(name), mask_file(name))}
    return {MARKER, SIDECAR_NAME} | model | pictures


def mask_file(name: str) -> str:
    return f"masks/{name}.png"


def depth_file(name: str) -> str:
    return f"depth/{name}.npy"


def write_shot(root: Path, shot: Shot) -> None:
    """Writes the picture, its depth in metres (float32, 0 is sky), and, if it has moving cars, their mask (0)."""
    picture = root / "images" / shot.name
    if picture.suffix == ".jpg":
        write_picture(picture, Image.fromarray(shot.rgb), "JPEG", quality=95, subsampling=0)
    else:
        write_picture(picture, Image.fromarray(shot.rgb), "PNG")
    write_array(root / depth_file(shot.name), shot.depth_z_m)
    if shot.moving.any():
        mask = root / mask_file(shot.name)
        write_picture(mask, Image.fromarray(np.where(shot.moving, 0, 255).astype(np.uint8)), "PNG")


def write_sidecar(root: Path, shots: list[Shot]) -> None:
    images = {}
    for shot in shots:
        images[shot.name] = {
            "drive": shot.drive,
            "exposure": shot.exposure,
            "hour": shot.hour,
            "depth": depth_file(shot.name),
        }
        if shot.moving.any():
            images[shot.name]["mask"] = mask_file(shot.name)
    write_json(root / SIDECAR_NAME, {"version": SIDECAR_VERSION, "images": images})


def write_colmap(root: Path, cameras: dict[str, Camera], shots: list[Shot], points: SparsePoints) -> None:
    """Writes the exact model to sparse/0."""
    pairs = zip(shots, points.observations, strict=True)
    images = [ModelImage(shot.name, shot.place, shot.world_from_cam, seen) for shot, seen in pairs]
    model_points = ModelPoints(points.points_world, points.points_rgb, points.tracks)
    colmap_writer.write_colmap(root / "sparse" / "0", cameras, images, model_points)
