"""Tables of nuScenes (Caesar et al. 2020, https://www.nuscenes.org/nuscenes): v1.0-*/*.json beside samples/, sweeps/.

An image is a row of sample_data whose calibrated sensor is a camera. Its pose is world_from_ego (ego_pose, at the
image's own time) times ego_from_cam (calibrated_sensor); rotations are quaternions (w, x, y, z), lengths metres, camera
axes OpenCV's, pixels counted from 0 at their centres. A scene, 20 s of driving, is a drive.
"""

from pathlib import Path
from typing import Any

import numpy as np

from blocknerf.core.camera import Camera
from blocknerf.core.errors import UserError, quote
from blocknerf.core.reading import read_json
from blocknerf.scene.readers.candidates import Candidate, Capture
from blocknerf.scene.readers.found_files import FileFinder, Found
from blocknerf.scene.readers.pose_conversions import CENTRE_PX, rotation_of

Row = dict[str, Any]
_TABLES = ("scene", "sample", "sample_data", "ego_pose", "calibrated_sensor", "sensor")


def finds_nuscenes(data_root: Path) -> bool:
    return bool(_versions(data_root))


def read_nuscenes(data_root: Path) -> Capture:
    """Raises UserError that names the table and the row if one is missing or refers to a missing one."""
    versions = _versions(data_root)
    if len(versions) > 1:
        listed = ", ".join(path.name for path in versions)
        raise UserError(
            f"{data_root} holds tables of several versions ({listed}); leave one, and move the others away."
        )
    tables = {name: _table(versions[0] / f"{name}.json") for name in _TABLES}
    rows = [row for row in tables["sample_data"].values() if _is_camera(tables, row)]
    names = [_text(row, "filename", "sample_data") for row in rows]
    found = FileFinder(data_root).find(names, folders=("",))
    return Capture([_candidate(found[name], name, tables, row) for name, row in zip(names, rows, strict=True)])


def _candidate(photograph: Found, name: str, tables: dict[str, dict[str, Row]], row: Row) -> Candidate:
    mounted = _get(tables, "calibrated_sensor", row)
    ego = _get(tables, "ego_pose", row)
    scene = _get(tables, "scene", _get(tables, "sample", row))
    ego_from_cam, world_from_ego = _rigid(mounted, "calibrated_sensor"), _rigid(ego, "ego_pose")
    pose = world_from_ego @ ego_from_cam
    (fx, _, cx), (_, fy, cy), _ = _numbers(mounted, "camera_intrinsic", (3, 3), "calibrated_sensor")
    params = (float(fx), float(fy), float(cx) + CENTRE_PX, float(cy) + CENTRE_PX)
    camera = Camera("PINHOLE", _pixels(row, "width"), _pixels(row, "height"), params)
    return Candidate(
        name,
        photograph.path,
        camera,
        repr(camera),
        pose[:3],
        drive=_text(scene, "name", "scene"),
        moment=_moment(row),
        problem=photograph.problem,
    )


def _versions(data_root: Path) -> list[Path]:
    return sorted(path.parent for path in data_root.glob("v1.0-*/sample_data.json"))


def _table(path: Path) -> dict[str, Row]:
    rows = read_json(path, "table of nuScenes")
    if not isinstance(rows, list) or not all(map(_has_token, rows)):
        raise UserError(f"{path} is not a table of nuScenes: a list of rows that have a 'token'. Get it again.")
    return {row["token"]: row for row in rows}


def _has_token(row: Any) -> bool:
    return isinstance(row, dict) and isinstance(row.get("token"), str)


def _is_camera(tables: dict[str, dict[str, Row]], row: Row) -> bool:
    return _cell(_sensor(tables, row), "modality", "sensor") == "camera"


def _sensor(tables: dict[str, dict[str, Row]], row: Row) -> Row:
    return _get(tables, "sensor", _get(tables, "calibrated_sensor", row))


def _get(tables: dict[str, dict[str, Row]], name: str, asking: Row) -> Row:
    """The row of table `name` to which a row of another refers."""
    token = _text(asking, f"{name}_token", "a table")
    if token not in tables[name]:
        raise UserError(f"{name}.json has no row {token!r}, which {asking['token']!r} asks for. Get the tables again.")
    return tables[name][token]


def _cell(row: Row, key: str, table: str) -> Any:
    if key not in row:
        raise UserError(f"The row {row['token']!r} of {table} has no {key!r}. It has: {', '.join(row)}.")
    return row[key]


def _text(row: Row, key: str, table: str) -> str:
    text = _cell(row, key, table)
    if not isinstance(text, str):
        raise UserError(f"The row {row['token']!r} of {table}: {key!r} must be text, not {quote(text)}.")
    return text


def _moment(row: Row) -> float | None:
    """Microseconds since 1970."""
    timestamp = row.get("timestamp")
    return float(timestamp) if isinstance(timestamp, int | float) and abs(timestamp) < 2**63 else None


def _pixels(row: Row, key: str) -> int:
    count = _cell(row, key, "sample_data")
    if type(count) is not int:
        raise UserError(f"The row {row['token']!r} of sample_data: {key!r} must be pixels, not {quote(count)}.")
    return count


def _rigid(row: Row, table: str) -> np.ndarray:
    transform = np.eye(4)
    transform[:3, :3] = rotation_of(_numbers(row, "rotation", (4,), table))
    transform[:3, 3] = _numbers(row, "translation", (3,), table)
    return transform


def _numbers(row: Row, key: str, shape: tuple[int, ...], table: str) -> np.ndarray:
    cell = _cell(row, key, table)
    try:
        values = np.array(cell, np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(
            f"The row {row['token']!r} of {table}.json: {key!r} holds something that is not a number."
        ) from error
    if values.shape != shape:
        raise UserError(f"The row {row['token']!r} of {table}.json: {key!r} has the shape {values.shape}, not {shape}.")
    return values
