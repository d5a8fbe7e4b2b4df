"""A COLMAP model and its photographs become candidates."""

from pathlib import Path, PurePosixPath

import numpy as np

from blocknerf.core.errors import UserError
from blocknerf.scene.readers.candidates import Candidate, Capture
from blocknerf.scene.readers.colmap_files import ColmapImage, find_models, read_model
from blocknerf.scene.readers.found_files import IMAGE_FOLDER, FileFinder, name_in_images
from blocknerf.scene.readers.pose_conversions import rotation_of


def finds_colmap(data_root: Path) -> bool:
    return bool(find_models(data_root))


def read_colmap(data_root: Path, model_path: str | None = None) -> Capture:
    """Photographs are in `data_root/images`, or at their names relative to `data_root`.

    `model_path` is one of `find_models` (default: the first). Raises UserError that names a missing or damaged file.
    """
    if model_path is None:
        model_path = next(iter(find_models(data_root)), None)
    if model_path is None:
        raise UserError(f"{data_root} holds no COLMAP model.")
    model = read_model(data_root / model_path)
    names = [PurePosixPath(image.name.replace("\\", "/")).as_posix() for image in model.images]
    photographs = FileFinder(data_root).find(names, folders=(IMAGE_FOLDER, ""))
    candidates = []
    for name, image in zip(names, model.images, strict=True):
        found = photographs[name]
        candidates.append(
            Candidate(
                name=name_in_images(name) if found.name == name else name,
                path=found.path,
                camera=model.cameras.get(image.camera_id),
                camera_key=str(image.camera_id),
                world_from_cam=_world_from_cam(image),
                point_rows=_rows(image.point_ids, model.point_ids),
                keypoints=_keypoints(image, model.point_ids),
                problem=found.problem,
            )
        )
    return Capture(candidates, model.points_world, model.points_rgb, points_error_px=model.points_error_px)


def _world_from_cam(image: ColmapImage) -> np.ndarray:
    with np.errstate(invalid="ignore", over="ignore"):
        world_from_cam = rotation_of(image.quaternion_wxyz).T
        center = -world_from_cam @ np.array(image.translation)
    return np.concatenate([world_from_cam, center[:, None]], axis=1)


def _keypoints(image: ColmapImage, point_ids: np.ndarray) -> np.ndarray:
    known = np.isin(image.kept_ids, point_ids)
    return np.column_stack([np.searchsorted(point_ids, image.kept_ids[known]), image.kept_xy[known]])


def _rows(wanted_ids: np.ndarray, point_ids: np.ndarray) -> np.ndarray:
    """Rows of the sorted `point_ids` that hold `wanted_ids`; unknown ids are skipped."""
    rows = np.searchsorted(point_ids, wanted_ids)
    inside = rows < len(point_ids)
    rows, wanted_ids = rows[inside], wanted_ids[inside]
    return rows[point_ids[rows] == wanted_ids]
