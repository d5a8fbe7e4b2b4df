"""Scenes made by hand: cameras put where a test wants them."""

import dataclasses
import json
from pathlib import Path

import numpy as np
from PIL import Image

from blocknerf.core.camera import Camera
from blocknerf.scene.scene import ImageRecord, Scene

CAMERA = Camera("PINHOLE", 64, 48, (40.0, 40.0, 32.0, 24.0))


def look_at(center, target, up=(0.0, 0.0, 1.0)) -> np.ndarray:
    """world_from_cam [3, 4] of a level camera (x right, y down, z forward)."""
    forward = np.asarray(target, float) - np.asarray(center, float)
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, up)
    if np.linalg.norm(right) < 1e-6:
        right = np.array([1.0, 0.0, 0.0])
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(forward, right), forward, np.asarray(center, float)], axis=1)


def scene_of(poses, points=None, drives=None, test_names=frozenset()) -> Scene:
    """One image per pose; each sees the points that project into it. Every image trains unless it is named."""
    points = np.zeros((0, 3)) if points is None else np.asarray(points, float)
    images = []
    for i, pose in enumerate(poses):
        name = f"frame_{i:04d}.png"
        drive = "0" if drives is None else drives[i]
        images.append(ImageRecord(f"id{i:04d}", name, Path(name), "c", pose, drive, point_rows=_seen(pose, points)))
    colours = np.full((len(points), 3), 120, np.uint8)
    return Scene(Path("made"), {"c": CAMERA}, tuple(images), points, colours, frozenset(test_names))


def _seen(pose: np.ndarray, points: np.ndarray) -> np.ndarray:
    x, y, z = ((points - pose[:, 3]) @ pose[:, :3]).T
    with np.errstate(divide="ignore", invalid="ignore"):
        seen = (z > 0.1) & (np.abs(40 * x / z) < 32) & (np.abs(40 * y / z) < 24)
    return np.flatnonzero(seen)


def with_tests(scene: Scene, every: int = 5) -> Scene:
    return dataclasses.replace(scene, test_names=frozenset(image.name for image in scene.images[::every]))


def aerial(columns=8, rows=6, spacing_m=10.0, height_m=40.0, tilt=3.0, points=2000) -> Scene:
    """A survey flight: cameras on a raster above flat ground, tilted a little forwards."""
    rng = np.random.default_rng(0)
    xy = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=-1).reshape(-1, 2) * spacing_m
    xy = xy + rng.uniform(-2, 2, xy.shape)
    poses = [look_at((x, y, height_m), (x, y + tilt, 0)) for x, y in xy]
    low, high = xy.min(axis=0) - 15, xy.max(axis=0) + 15
    ground = np.concatenate([rng.uniform(low, high, (points, 2)), rng.uniform(0, 4, (points, 1))], axis=1)
    return scene_of(poses, ground)


def streets(drives=3, length_m=120.0, step_m=2.0, lane_m=1.0) -> Scene:
    """Parallel drives along x, cameras looking ahead; facades left and right as points."""
    rng = np.random.default_rng(1)
    poses, names = [], []
    for drive in range(drives):
        for x in np.arange(0, length_m, step_m):
            poses.append(look_at((x, drive * lane_m, 1.5), (x + 10, drive * lane_m, 1.4)))
            names.append(f"d{drive}")
    facades = np.stack(
        [rng.uniform(0, length_m + 20, 3000), rng.choice([-8.0, 10.0], 3000), rng.uniform(0, 9, 3000)], axis=1
    )
    return scene_of(poses, facades, names)


def crossing(length_m=120.0, step_m=3.0) -> Scene:
    """Two drives that cross at a right angle, off the middle; no points."""
    poses, drives = [], []
    for name, along, across in (("east", (1, 0), (0, 1)), ("north", (0, 1), (1, 0))):
        for at in np.arange(0, length_m, step_m):
            position = at * np.array(along, float) + 45.0 * np.array(across)
            poses.append(look_at((*position, 1.5), (*(position + 10 * np.array(along)), 1.4)))
            drives.append(name)
    return scene_of(poses, drives=drives)


def moved(scene: Scene, rotation: np.ndarray, offset: np.ndarray) -> Scene:
    """The same capture in a world that was turned, then shifted."""
    images = tuple(
        ImageRecord(
            image.id,
            image.name,
            image.path,
            image.camera_key,
            np.concatenate(
                [rotation @ image.world_from_cam[:, :3], (rotation @ image.world_from_cam[:, 3] + offset)[:, None]], 1
            ),
            image.drive,
            point_rows=image.point_rows,
        )
        for image in scene.images
    )
    points = scene.points_world @ rotation.T + offset
    return Scene(scene.root, scene.cameras, images, points, scene.points_rgb, scene.test_names)


def write_capture(folder: Path, cameras: int = 24, shift: float = 0.0) -> Path:
    """A small capture on disk (transforms.json): a straight walk of 2 m steps past a wall."""
    (folder / "images").mkdir(parents=True)
    frames = []
    for i in range(cameras):
        picture = np.full((12, 16, 3), (i * 9 % 256, 80, 160), np.uint8)
        Image.fromarray(picture).save(folder / "images" / f"{i:03d}.png")
        pose = np.eye(4)
        pose[:3] = look_at((2.0 * i + shift, 0, 1.5), (2.0 * i + shift + 1, 5, 1.5))
        pose[:3, 1:3] *= -1  # transforms.json: y up, z backwards
        frames.append({"file_path": f"images/{i:03d}.png", "transform_matrix": pose.tolist()})
    intrinsics = {"w": 16, "h": 12, "fl_x": 12.0, "fl_y": 12.0, "cx": 8.0, "cy": 6.0, "camera_model": "PINHOLE"}
    (folder / "transforms.json").write_text(json.dumps(intrinsics | {"frames": frames}))
    return folder
