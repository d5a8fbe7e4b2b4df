"""The part of a scene that one block needs, for a machine without the rest."""

import hashlib
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import numpy as np

from blocknerf.core.errors import UserError
from blocknerf.scene.scene import ImageRecord, Scene, image_id


def part_of(scene: Scene, image_ids: Collection[str]) -> Scene:
    """The scene with only these images and the cameras and points that belong to them."""
    wanted = set(image_ids)
    images = [image for image in scene.images if image.id in wanted]
    keys = {image.camera_key for image in images}
    seen = np.unique(np.concatenate([np.zeros(0, np.int64), *(image.point_rows for image in images)]))
    return replace(
        scene,
        cameras={key: camera for key, camera in scene.cameras.items() if key in keys},
        images=tuple(replace(image, point_rows=np.searchsorted(seen, image.point_rows)) for image in images),
        points_world=scene.points_world[seen],
        points_rgb=scene.points_rgb[seen],
        points_error_px=None if scene.points_error_px is None else scene.points_error_px[seen],
        skipped=(),
    )


def relocated(scene: Scene, root: Path) -> Scene:
    """The same scene with its folder at `root`; files outside of the folder keep their paths."""

    def rebased(path: Path) -> Path:
        return root / path.relative_to(scene.root) if path.is_relative_to(scene.root) else path

    images = tuple(
        replace(
            image,
            path=rebased(image.path),
            mask_paths=tuple(rebased(path) for path in image.mask_paths),
            depth_path=None if image.depth_path is None else rebased(image.depth_path),
            rays_path=None if image.rays_path is None else rebased(image.rays_path),
        )
        for image in scene.images
    )
    return replace(scene, root=root, images=images)


def files_of(scene: Scene) -> list[Path]:
    """Photographs, masks, depth maps and tables of rays."""
    paths = (
        path
        for image in scene.images
        for path in (image.path, *image.mask_paths, image.depth_path, image.rays_path)
        if path is not None
    )
    return list(dict.fromkeys(paths))


def require_unchanged(image: ImageRecord) -> None:
    """Raises UserError if the photograph has changed since the scene was read."""
    digest = hashlib.sha256(image.path.read_bytes()).hexdigest()
    if image_id(image.listed_name or image.name, digest) != image.id:
        raise UserError(
            f"The photograph {image.name} has changed since the blocks were planned. Put the old one back, or plan "
            "again into another output folder."
        )
