"""The files of a synthetic scene: pictures, masks, depth, a COLMAP text model, and the sidecar."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from blocknerf.core.files import write_json
from blocknerf.scene.scene import Camera
from blocknerf.synth.sparse import Shot, SparsePoints

SIDECAR = "blocknerf_scene.json"


def mask_file(name: str) -> str:
    return f"masks/{name}.png"


def depth_file(name: str) -> str:
    return f"depth/{name}.npy"


def write_shot(root: Path, shot: Shot) -> None:
    """The picture, its depth in metres (float32, 0 is sky), and a mask (0 is a moving car) where a car is."""
    picture = root / "images" / shot.name
    picture.parent.mkdir(parents=True, exist_ok=True)
    if picture.suffix == ".jpg":
        Image.fromarray(shot.rgb).save(picture, quality=95, subsampling=0)
    else:
        Image.fromarray(shot.rgb).save(picture)
    depth = root / depth_file(shot.name)
    depth.parent.mkdir(parents=True, exist_ok=True)
    np.save(depth, shot.depth_z_m)
    if shot.moving.any():
        mask = root / mask_file(shot.name)
        mask.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.where(shot.moving, 0, 255).astype(np.uint8)).save(mask)


def write_sidecar(root: Path, shots: list[Shot]) -> None:
    images = {}
    for shot in shots:
        images[shot.name] = {"drive": shot.drive, "exposure": shot.exposure, "hour": shot.hour,
                             "depth": depth_file(shot.name)}  # fmt: skip
        if shot.moving.any():
            images[shot.name]["mask"] = mask_file(shot.name)
    write_json(root / SIDECAR, {"version": 1, "images": images})


def write_colmap(root: Path, cameras: dict[str, Camera], shots: list[Shot], points: SparsePoints) -> None:
    """cameras.txt, images.txt and points3D.txt in sparse/0 (https://colmap.github.io/format.html); ids count from 1."""
    folder = root / "sparse" / "0"
    folder.mkdir(parents=True)
    camera_ids = {place: number for number, place in enumerate(cameras, 1)}
    lines = io.StringIO()
    for place, camera in cameras.items():
        numbers = " ".join(f"{p:.17g}" for p in camera.params)
        lines.write(f"{camera_ids[place]} {camera.model} {camera.width} {camera.height} {numbers}\n")
    (folder / "cameras.txt").write_text(lines.getvalue())

    lines = io.StringIO()
    for number, (shot, seen) in enumerate(zip(shots, points.observations, strict=True), 1):
        cam_from_world = shot.world_from_cam[:, :3].T
        translation = -cam_from_world @ shot.world_from_cam[:, 3]
        pose = " ".join(f"{v:.17g}" for v in (*quaternion(cam_from_world), *translation))
        lines.write(f"{number} {pose} {camera_ids[shot.place]} {shot.name}\n")
        lines.write(" ".join(f"{x:.6f} {y:.6f} {point + 1}" for x, y, point in seen) + "\n")
    (folder / "images.txt").write_text(lines.getvalue())

    lines = io.StringIO()
    for number, (xyz, rgb, track) in enumerate(
        zip(points.points_world, points.points_rgb, points.tracks, strict=True), 1
    ):
        where, colour = " ".join(f"{v:.9g}" for v in xyz), " ".join(map(str, rgb))
        lines.write(f"{number} {where} {colour} 0.0 " + " ".join(f"{s + 1} {o}" for s, o in track) + "\n")
    (folder / "points3D.txt").write_text(lines.getvalue())


def quaternion(rotation: np.ndarray) -> np.ndarray:
    """Rotation matrix [3, 3] -> unit quaternion (w, x, y, z), w >= 0: the top eigenvector of Bar-Itzhack (2000)."""
    r = rotation
    k = np.array([
        [r[0, 0] + r[1, 1] + r[2, 2], r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1]],
        [r[2, 1] - r[1, 2], r[0, 0] - r[1, 1] - r[2, 2], r[1, 0] + r[0, 1], r[0, 2] + r[2, 0]],
        [r[0, 2] - r[2, 0], r[1, 0] + r[0, 1], r[1, 1] - r[0, 0] - r[2, 2], r[2, 1] + r[1, 2]],
        [r[1, 0] - r[0, 1], r[0, 2] + r[2, 0], r[2, 1] + r[1, 2], r[2, 2] - r[0, 0] - r[1, 1]],
    ])  # fmt: skip
    q = np.linalg.eigh(k)[1][:, -1]
    return q if q[0] >= 0 else -q
