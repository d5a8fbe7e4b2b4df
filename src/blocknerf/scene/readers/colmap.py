"""A COLMAP model and its photographs become candidates."""

from pathlib import Path, PurePosixPath

import numpy as np

from blocknerf.core.errors import UserError
from blocknerf.scene.readers.candidates import Candidate, Capture
from blocknerf.scene.readers.colmap_files import ColmapImage, find_model, read_model
from blocknerf.scene.readers.found_files import IMAGE_FOLDER, FileFinder
from blocknerf.scene.readers.poses import rotation_of


def finds_colmap(data_root: Path) -> bool:
    return find_model(data_root) is not None


def read_colmap(data_root: Path) -> Capture:
    """Photographs lie in `data_root/images`, or at their names relative to `data_root`.

    Raises UserError that names a missing or damaged file of the model.
    """
    model_folder = find_model(data_root)
    if model_folder is None:
        raise UserError(f"{data_root} holds no COLMAP model.")
    model = read_model(model_folder)
    names = [PurePosixPath(image.name.replace("\\", "/")).as_posix() for image in model.images]
    photographs = FileFinder(data_root).find(names, folders=(IMAGE_FOLDER, ""))
    candidates = []
    for name, image in zip(names, model.images, strict=True):
        candidates.append(
            Candidate(
                name=name,
                path=photographs[name].path,
                camera=model.cameras.get(image.camera_id),
                camera_key=str(image.camera_id),
                world_from_cam=_world_from_cam(image),
                point_rows=_rows(image.point_ids, model.point_ids),
                problem=photographs[name].problem,
            )
        )
    return Capture(candidates, model.points_world, model.points_rgb)


def _world_from_cam(image: ColmapImage) -> np.ndarray:
    with np.errstate(invalid="ignore", over="ignore"):
        world_from_cam = rotation_of(image.quaternion_wxyz).T
        center = -world_from_cam @ np.array(image.translation)
    return np.concatenate([world_from_cam, center[:, None]], axis=1)


def _rows(wanted_ids: np.ndarray, point_ids: np.ndarray) -> np.ndarray:
    """Rows of the sorted `point_ids` that hold `wanted_ids`; ids that no point has are left out."""
    rows = np.searchsorted(point_ids, wanted_ids)
    inside = rows < len(point_ids)
    rows, wanted_ids = rows[inside], wanted_ids[inside]
    return rows[point_ids[rows] == wanted_ids]
