"""Small captures made on the fly."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from blocknerf.scene.colmap_module import pycolmap


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def poses(count: int, seed: int = 0) -> list[np.ndarray]:
    """world_from_cam [3, 4] of cameras around the origin that look at it."""
    generator, result = np.random.default_rng(seed), []
    for index in range(count):
        angle = 2 * np.pi * index / count
        center = np.array([4 * np.cos(angle), generator.uniform(-1, 1), 4 * np.sin(angle)])
        forward = -center / np.linalg.norm(center)
        right = np.cross([0, 1, 0], forward)
        right /= np.linalg.norm(right)
        rotation = np.stack([right, np.cross(forward, right), forward], axis=1)
        result.append(np.concatenate([rotation, center[:, None]], axis=1))
    return result


def colmap_capture(
    root: Path,
    names: list[str] | None = None,
    model: str = "SIMPLE_RADIAL",
    size: tuple[int, int] = (48, 36),
    num_points: int = 40,
    kind: str = "bin",
) -> pycolmap.Reconstruction:
    """A COLMAP model with frames/rigs files, written by pycolmap itself, and its photographs."""
    names = names or [f"{index:03d}.png" for index in range(5)]
    generator = np.random.default_rng(3)
    scene = pycolmap.Reconstruction()
    camera = pycolmap.Camera.create_from_model_name(7, model, 50.0, *size)
    scene.add_camera_with_trivial_rig(camera)
    points = generator.uniform(-1, 1, (num_points, 3))
    for image_id, (name, pose) in enumerate(zip(names, poses(len(names)), strict=True), 1):
        world_from_cam = pycolmap.Rigid3d(pycolmap.Rotation3d(pose[:, :3]), pose[:, 3])
        image = pycolmap.Image(name, camera_id=7, image_id=image_id)
        seen = [camera.img_from_cam(world_from_cam.inverse() * point) for point in points]
        image.points2D = pycolmap.Point2DList([pycolmap.Point2D(xy) for xy in seen])
        scene.add_image_with_trivial_frame(image, world_from_cam.inverse())
        path = root / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(*size, seed=image_id).save(path)
    for row, point in enumerate(points):
        observed_by = [image_id for image_id in range(1, len(names) + 1) if (row + image_id) % 3]
        track = pycolmap.Track([pycolmap.TrackElement(image_id, row) for image_id in observed_by])
        scene.add_point3D(point, track, generator.integers(0, 256, 3, np.uint8))
    folder = root / "sparse" / "0"
    folder.mkdir(parents=True)
    (scene.write_binary if kind == "bin" else scene.write_text)(folder)
    return scene


OPENGL_FROM_OPENCV = np.diag([1.0, -1.0, -1.0])


def transforms_capture(root: Path, count: int = 4, size: tuple[int, int] = (40, 30), **top) -> dict:
    """A transforms.json with its photographs; returns its tree, which a test changes and writes again."""
    root.mkdir(parents=True, exist_ok=True)
    frames = []
    for index, pose in enumerate(poses(count)):
        file_path = f"images/{index:04d}.png"
        (root / "images").mkdir(exist_ok=True)
        picture(*size, seed=index).save(root / file_path)
        matrix = np.eye(4)
        matrix[:3] = np.concatenate([pose[:, :3] @ OPENGL_FROM_OPENCV, pose[:, 3:]], axis=1)
        frames.append({"file_path": file_path, "transform_matrix": matrix.tolist()})
    tree = {
        "fl_x": 35.0,
        "fl_y": 36.0,
        "cx": size[0] / 2 + 0.5,
        "cy": size[1] / 2 - 0.5,
        "w": size[0],
        "h": size[1],
        **top,
        "frames": frames,
    }
    write_transforms(root, tree)
    return tree


def write_transforms(root: Path, tree: dict) -> None:
    (root / "transforms.json").write_text(json.dumps(tree))


CUT_OUT_PX = 24


def cut_out_picture(seed: int) -> np.ndarray:
    """[24, 24, 4] levels: an object of any opacity in a transparent picture."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (CUT_OUT_PX, CUT_OUT_PX, 4), np.uint8)
    pixels[:4] = 0
    return pixels


def blender_scene(root: Path, ending: str = "", **counts: int) -> dict[str, np.ndarray]:
    """Writes parts with so many pictures; returns the pictures by name. `ending` is that of names in the files."""
    around, pictures = iter(poses(sum(counts.values()))), {}
    for part, count in counts.items():
        (root / part).mkdir(parents=True)
        frames = []
        for number in range(count):
            pose, matrix, name = next(around), np.eye(4), f"{part}/r_{number}"
            matrix[:3] = np.concatenate([pose[:, :3] @ OPENGL_FROM_OPENCV, pose[:, 3:]], axis=1)
            pictures[f"{name}.png"] = cut_out_picture(len(pictures))
            Image.fromarray(pictures[f"{name}.png"]).save(root / f"{name}.png")
            frames.append({"file_path": f"./{name}{ending}", "rotation": 0.01, "transform_matrix": matrix.tolist()})
        tree = {"camera_angle_x": 0.69, "frames": frames}
        (root / f"transforms_{part}.json").write_text(json.dumps(tree))
    return pictures
