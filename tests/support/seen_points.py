"""A room with patterned walls whose sparse points are exact: photographs, poses and tracks as COLMAP stores them."""

from pathlib import Path

import numpy as np
from PIL import Image

from blocknerf.core.camera import Camera
from blocknerf.core.config.dataset import DatasetConfig
from blocknerf.scene.colmap_writer import ModelImage, ModelPoints, write_colmap
from blocknerf.scene.rays import camera_directions, pixels_of
from blocknerf.scene.readers.read import read_scene
from blocknerf.scene.scene import Scene
from blocknerf.scene.store import ImageStore
from tests.support.made_scenes import look_at
from tests.support.room import wall_distances_m

PINHOLE = Camera("PINHOLE", 96, 72, (60.0, 60.0, 48.0, 36.0))
LENSES = {
    "pinhole": PINHOLE,
    "fisheye": Camera("OPENCV_FISHEYE", 96, 72, (50.0, 50.0, 48.0, 36.0, 0.03, 0.0, 0.0, 0.0)),
    "equirectangular": Camera("EQUIRECTANGULAR", 192, 96, (192.0, 96.0)),
}


def pattern(points: np.ndarray) -> np.ndarray:
    """Colour of places; [n, 3] in [0, 1], waves about as long as a step."""
    rng = np.random.default_rng(5)
    waves = rng.normal(0, 3.5, (3, 3, 12))
    phases = rng.uniform(0, 2 * np.pi, (3, 12))
    return np.stack([0.5 + 0.1 * np.sin(points @ waves[c] + phases[c]).sum(-1) for c in range(3)], -1).clip(0, 1)


def poses_in_room(count: int = 16) -> list[np.ndarray]:
    """On a circle, looking through its middle at the wall beyond."""
    turns = 2 * np.pi * np.arange(count) / count
    places = [(1.5 * np.cos(turn), 1.5 * np.sin(turn), 0.4 * np.sin(3 * turn)) for turn in turns]
    return [look_at(place, (-0.3 * place[1], 0.3 * place[0], 0.0)) for place in places]


def points_on_walls(count: int, seed: int = 0) -> np.ndarray:
    directions = np.random.default_rng(seed).normal(size=(count, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return wall_distances_m(np.zeros(3), directions) * directions


def write_seen_points(
    root: Path, camera: Camera = PINHOLE, images: int = 16, points: int = 300, gains: tuple[float, ...] = (1.0,)
) -> Path:
    """A capture of COLMAP; `gains` brighten its photographs in turn."""
    directions = camera_directions(camera, camera.width, camera.height).reshape(-1, 3).astype(np.float64)
    world, poses = points_on_walls(points), poses_in_room(images)
    listed, tracks = [], [[] for _ in world]
    (root / "images").mkdir(parents=True)
    for number, pose in enumerate(poses):
        rays = np.nan_to_num(directions) @ pose[:, :3].T
        rgb = pattern(pose[:, 3] + wall_distances_m(pose[:, 3], rays) * rays) * gains[number % len(gains)]
        picture = (255 * rgb.clip(0, 1) + 0.5).astype(np.uint8).reshape(camera.height, camera.width, 3)
        Image.fromarray(picture).save(root / f"images/{number:02d}.png")
        xy_px = pixels_of(camera, (world - pose[:, 3]) @ pose[:, :3])
        with np.errstate(invalid="ignore"):
            rows = np.flatnonzero(((xy_px > 0) & (xy_px < (camera.width, camera.height))).all(1))
        for seen, row in enumerate(rows):
            tracks[row].append((number, seen))
        observed = [(*xy_px[row].tolist(), int(row)) for row in rows]
        listed.append(ModelImage(f"{number:02d}.png", "1", pose, observed))
    colours = (255 * pattern(world)).astype(np.uint8)
    (root / "sparse/0").mkdir(parents=True)
    write_colmap(root / "sparse/0", {"1": camera}, listed, ModelPoints(world, colours, tracks), binary=True)
    return root


def opened(root: Path, downsample: int = 1) -> tuple[Scene, ImageStore]:
    scene = read_scene(root, DatasetConfig())
    return scene, ImageStore.open(scene, downsample, root / f"store{downsample}", progress=False)
