"""A room with painted walls, ray-traced in closed form: a scene whose true picture is known everywhere."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

HALF_ROOM_M = 4.0


def wall_distances_m(origins: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Along each ray, from inside the cube of half edge HALF_ROOM_M to its wall; [n, 1]."""
    with np.errstate(divide="ignore"):
        exits = np.where(directions > 0, HALF_ROOM_M - origins, -HALF_ROOM_M - origins) / directions
    return np.where(directions == 0, np.inf, exits).min(-1, keepdims=True)


def wall_colours(origins: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Colour of the wall that each ray hits; [n, 3] in [0, 1]."""
    distance = wall_distances_m(origins, directions)
    x, y, z = ((origins + distance * directions) / HALF_ROOM_M).T
    return 0.5 + 0.4 * np.stack([np.sin(3 * x + y), np.cos(2 * y - z), np.sin(2 * z + x * y)], -1)


def write_room(folder: Path, images: int = 16, width: int = 32, height: int = 24, depth: bool = False) -> Path:
    """A transforms.json scene: cameras on a circle looking outwards and down a little, in two drives.

    With `depth`, exact maps of it along the optical axis.
    """
    focal = 0.8 * width
    frames = []
    for index in range(images):
        yaw, pitch = 2 * np.pi * index / images, 0.2 * np.sin(3 * index)
        forward = np.array([np.cos(yaw) * np.cos(pitch), np.sin(yaw) * np.cos(pitch), np.sin(pitch)])
        right = np.cross(forward, [0, 0, 1.0])
        right /= np.linalg.norm(right)
        down = np.cross(forward, right)
        centre = np.array([1.5 * np.cos(yaw + 1), 1.5 * np.sin(yaw + 1), 0.3 * np.cos(5 * yaw)])
        u, v = np.meshgrid(np.arange(width) + 0.5 - width / 2, np.arange(height) + 0.5 - height / 2)
        directions = u[..., None] / focal * right + v[..., None] / focal * down + forward
        directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
        rays = np.broadcast_to(centre, (width * height, 3)), directions.reshape(-1, 3)
        rgb = wall_colours(*rays)
        drive = "noon" if index % 2 == 0 else "dusk"
        name = f"images/{drive}/{index:03d}.png"
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((255 * rgb + 0.5).astype(np.uint8).reshape(height, width, 3)).save(path)
        matrix = np.eye(4)
        matrix[:3] = np.stack([right, -down, -forward, centre], -1)  # OpenGL axes
        frames.append({"file_path": name, "transform_matrix": matrix.tolist()})
        if depth:
            depth_z_m = wall_distances_m(*rays).reshape(height, width) * (directions @ forward)
            (folder / "depth").mkdir(exist_ok=True)
            np.save(folder / f"depth/{index:03d}.npy", depth_z_m.astype(np.float32))
            frames[-1]["depth_file_path"] = f"depth/{index:03d}.npy"
    camera = {"fl_x": focal, "fl_y": focal, "cx": width / 2, "cy": height / 2, "w": width, "h": height}
    (folder / "transforms.json").write_text(json.dumps({"camera_model": "PINHOLE", **camera, "frames": frames}))
    return folder
