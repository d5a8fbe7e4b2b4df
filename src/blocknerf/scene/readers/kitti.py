"""A sequence of KITTI odometry (Geiger et al. 2012): calib.txt, poses.txt, and a folder of photographs per camera.

A line of poses.txt is world_from_cam of camera 0, row by row. P0 to P3 of calib.txt project camera 0's coordinates into
each camera: K [I | t]. So camera i has the orientation of camera 0 and the centre -K^-1 P[:, 3]. Its pixels are counted
from 0 at their centres. A sequence in the benchmark's own folders (sequences/NN) has its poses in ../../poses/NN.txt.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from blocknerf.core.camera import Camera
from blocknerf.core.errors import UserError
from blocknerf.core.logging import log
from blocknerf.scene.readers.candidates import Candidate, Capture
from blocknerf.scene.readers.found_files import FileFinder, rows_of_numbers
from blocknerf.scene.readers.pose_conversions import CENTRE_PX

_FOLDERS = {"image_0": 0, "image_1": 1, "image_2": 2, "image_3": 3, "image_l": 0, "image_r": 1}
_COLOUR = ("image_2", "image_3")


def finds_kitti(data_root: Path) -> bool:
    return (data_root / "calib.txt").is_file() and any((data_root / folder).is_dir() for folder in _FOLDERS)


def read_kitti(data_root: Path) -> Capture:
    """Colour cameras if there are any, else the gray ones. Raises UserError if lengths disagree."""
    poses_path = _poses_path(data_root)
    poses = np.array(rows_of_numbers(poses_path, 12)).reshape(-1, 3, 4)
    projections = np.array(rows_of_numbers(data_root / "calib.txt", 12)).reshape(-1, 3, 4)
    moments = _moments(data_root / "times.txt", len(poses), poses_path)
    candidates, files = [], FileFinder(data_root)
    for folder in _folders(data_root):
        photographs = files.photographs(folder)
        _same_length(len(photographs), data_root / folder, len(poses), poses_path)
        if _FOLDERS[folder] >= len(projections):
            raise UserError(f"{data_root / 'calib.txt'} has no P{_FOLDERS[folder]}, the camera of {folder}.")
        times = moments or [_frame_number(path) for path in photographs]
        candidates += _of_camera(folder, projections[_FOLDERS[folder]], photographs, poses, times)
    return Capture(candidates)


def _moments(path: Path, num_poses: int, poses_path: Path) -> list[float] | None:
    """Seconds of each pose; None without times.txt."""
    if not path.is_file():
        return None
    rows = rows_of_numbers(path, 1)
    _same_length(len(rows), path, num_poses, poses_path)
    return [float(seconds) for (seconds,) in rows]


def _frame_number(path: Path) -> float | None:
    """Photographs come at equal time steps and are named by their numbers."""
    return float(path.stem) if re.fullmatch("[0-9]{1,15}", path.stem) else None


def _of_camera(
    folder: str,
    projection: np.ndarray,
    photographs: list[Path],
    poses: np.ndarray,
    moments: Sequence[float | None],
) -> list[Candidate]:
    k = projection[:, :3]
    if abs(np.linalg.det(k)) < 1e-9:
        raise UserError(f"The projection of {folder} in calib.txt has no inverse; it must be K [I | t].")
    center = -np.linalg.solve(k, projection[:, 3])  # in camera 0

    def camera(width: int, height: int) -> Camera:
        params = (k[0, 0], k[1, 1], k[0, 2] + CENTRE_PX, k[1, 2] + CENTRE_PX)
        return Camera("PINHOLE", width, height, tuple(map(float, params)))

    return [
        Candidate(
            name=f"{folder}/{path.name}",
            path=path,
            camera=camera,
            camera_key=folder,
            world_from_cam=np.concatenate([pose[:, :3], pose[:, :3] @ center[:, None] + pose[:, 3:]], axis=1),
            drive="0",
            moment=moment,
        )
        for path, pose, moment in zip(photographs, poses, moments, strict=True)
    ]


def _folders(data_root: Path) -> list[str]:
    present = [folder for folder in _FOLDERS if (data_root / folder).is_dir()]
    colour = [folder for folder in present if folder in _COLOUR]
    if colour and len(colour) < len(present):
        log.info("%s has gray and colour cameras; the gray ones are skipped.", data_root)
    return colour or present


def _poses_path(data_root: Path) -> Path:
    inside = data_root / "poses.txt"
    shared = data_root.resolve().parent.parent / "poses" / f"{data_root.resolve().name}.txt"
    if not inside.is_file() and not shared.is_file():
        raise UserError(f"There is no {inside}, nor {shared}. Sequences 11 to 21 of KITTI are published without poses.")
    return inside if inside.is_file() else shared


def _same_length(count: int, where: Path, num_poses: int, poses_path: Path) -> None:
    if count != num_poses:
        raise UserError(
            f"{where} has {count} entries, but {poses_path} has {num_poses} poses; a sequence has one pose an image. "
            "Remove what is too many, or get the sequence again."
        )
