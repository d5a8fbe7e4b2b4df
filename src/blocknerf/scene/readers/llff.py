"""poses_bounds.npy of LLFF (Mildenhall et al. 2019), with the photographs in images/, by name.

Each of N rows is a 3 x 5 matrix, row by row, and two depths that are not needed here. The matrix is world_from_cam with
the camera's axes [down, right, backwards], and a column of height, width and focal length in pixels.
"""

from pathlib import Path

import numpy as np

from blocknerf.core.camera import Camera
from blocknerf.core.errors import UserError
from blocknerf.core.reading import read_npy
from blocknerf.scene.readers.candidates import Candidate, Capture
from blocknerf.scene.readers.found_files import IMAGE_FOLDER, FileFinder

POSES_BOUNDS = "poses_bounds.npy"


def finds_llff(data_root: Path) -> bool:
    return (data_root / POSES_BOUNDS).is_file()


def read_llff(data_root: Path) -> Capture:
    """Raises UserError for a file of another shape or kind, or not as many rows as photographs."""
    path = data_root / POSES_BOUNDS
    rows = read_npy(path, "file of poses", "bfiucSU")
    if rows.ndim != 2 or rows.shape[1] != 17 or rows.dtype.kind not in "fiu":
        raise UserError(f"{path} must hold numbers of the shape (images, 17), not {rows.dtype} of {rows.shape}.")
    photographs = FileFinder(data_root).photographs(IMAGE_FOLDER)
    if len(photographs) != len(rows):
        raise UserError(
            f"{path} has {len(rows)} rows, but {photographs[0].parent} holds {len(photographs)} photographs; the rows "
            "belong to them by name. Put back what is missing, or remove what is too many."
        )
    return Capture([_candidate(*pair) for pair in zip(photographs, rows.astype(np.float64), strict=True)])


def _candidate(path: Path, row: np.ndarray) -> Candidate:
    matrix = row[:15].reshape(3, 5)
    down, right, backwards, center = matrix[:, :4].T
    height, width, focal = matrix[:, 4]
    camera, problem = None, "its row holds a size or focal length that is not finite"
    if np.isfinite(matrix[:, 4]).all():
        params = (float(focal), width / 2, height / 2)
        camera, problem = Camera("SIMPLE_PINHOLE", round(width), round(height), tuple(map(float, params))), None
    pose = np.stack([right, down, -backwards, center], axis=1)
    return Candidate(path.name, path, camera, repr(camera), pose, problem=problem)
