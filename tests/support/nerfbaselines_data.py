"""A data set as nerfbaselines hands it over, made from a scene that our reader has read."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from blocknerf.core.config.dataset import DatasetConfig
from blocknerf.scene.readers.read import read_scene


@dataclass(frozen=True)
class MadeCameras:
    """Arrays over images, or, of a single camera, over none."""

    poses: np.ndarray
    intrinsics: np.ndarray
    camera_models: np.ndarray
    distortion_parameters: np.ndarray
    image_sizes: np.ndarray

    def __len__(self) -> int:
        return 1 if self.poses.ndim == 2 else len(self.poses)

    def __getitem__(self, index: Any) -> "MadeCameras":
        return MadeCameras(*(getattr(self, field.name)[index] for field in fields(self)))

    def __iter__(self) -> Iterator["MadeCameras"]:
        return (self[index] for index in range(len(self)))

    def item(self) -> "MadeCameras":
        assert len(self) == 1
        return self if self.poses.ndim == 2 else self[0]


def dataset_of(root: Path, every: int = 1) -> dict[str, Any]:
    """Every `every`th image of the scene in `root`, of pinhole cameras, in the reverse order of names."""
    scene = read_scene(root, DatasetConfig())
    images = scene.images[::-every]
    cameras = [scene.cameras[image.camera_key] for image in images]
    return {
        "cameras": MadeCameras(
            poses=np.stack([image.world_from_cam for image in images]),
            intrinsics=np.array([camera.params[:4] for camera in cameras]),
            camera_models=np.zeros(len(images), np.int32),
            distortion_parameters=np.zeros((len(images), 6), np.float32),
            image_sizes=np.array([(camera.width, camera.height) for camera in cameras], np.int32),
        ),
        "images": [np.asarray(Image.open(image.path)) for image in images],
        "image_paths": [str(root / "images" / image.name) for image in images],
        "image_paths_root": str(root / "images"),
        "masks": None,
        "points3D_xyz": None,
        "points3D_rgb": None,
        "images_points3D_indices": None,
        "metadata": {"color_space": "srgb", "evaluation_protocol": "default"},
    }


def one_of(dataset: dict[str, Any], index: int) -> dict[str, Any]:
    """The data set of one image."""
    rows = {key: dataset[key][index : index + 1] for key in ("cameras", "images", "image_paths")}
    return dataset | rows


def moved(dataset: dict[str, Any], by_m: float) -> dict[str, Any]:
    """The same with its first camera elsewhere."""
    poses = dataset["cameras"].poses.copy()
    poses[0, 0, 3] += by_m
    return dataset | {"cameras": replace(dataset["cameras"], poses=poses)}
