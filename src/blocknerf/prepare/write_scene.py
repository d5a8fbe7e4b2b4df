"""Writes COLMAP's model as the scene: in its final frame, with its drives."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from blocknerf.core import disk
from blocknerf.core.errors import UserError
from blocknerf.core.files import put_folder, recover_folder, write_json
from blocknerf.core.lock import sweep_once
from blocknerf.core.logging import log
from blocknerf.core.system_errors import reason, remedy
from blocknerf.geometry.similarity import Similarity
from blocknerf.prepare.drives import drives_of
from blocknerf.prepare.georegister import (
    COARSE_M,
    LEAST_POSITIONS,
    Fit,
    georegister,
    level,
    places_of,
    scale_against_gps,
)
from blocknerf.prepare.shots import CapturedImage
from blocknerf.scene.colmap_module import pycolmap
from blocknerf.scene.readers.sidecar import SIDECAR_NAME, SIDECAR_VERSION

MODEL = "sparse/0"
MODEL_FILES = tuple(f"{part}.bin" for part in ("cameras", "images", "points3D", "rigs", "frames"))
_LEAST_BASELINE_M = 20.0


@dataclass(frozen=True, slots=True)
class Cameras:
    """Placed pictures: names and poses, sorted by name."""

    names: tuple[str, ...]
    world_from_cam: Float[np.ndarray, "n 3 4"]


def cameras_of(model: Any) -> Cameras:
    """Of a `pycolmap.Reconstruction`."""
    images = sorted((model.image(number) for number in model.reg_image_ids()), key=lambda image: image.name)
    poses = [image.cam_from_world().inverse().matrix() for image in images]
    return Cameras(tuple(image.name for image in images), np.array(poses, np.float64).reshape(-1, 3, 4))


def write_scene(
    out: Path, model_folder: Path, shots: Sequence[CapturedImage], use_gps: bool, pause_s: float
) -> dict[str, Any]:
    """Writes OUT/sparse/0 and the sidecar; returns a description of the frame, in JSON types.

    Raises UserError if GPS contradicts the pictures.
    """
    model = pycolmap.Reconstruction(str(model_folder))
    cameras = cameras_of(model)
    world_from_model, georeference = final_frame(cameras, shots, use_gps)
    rotation = pycolmap.Rotation3d(world_from_model.rotation)
    model.transform(pycolmap.Sim3d(world_from_model.scale, rotation, world_from_model.translation))
    _write_model(out / MODEL, model)
    drives = dict(zip((shot.name for shot in shots), drives_of(shots, pause_s), strict=True))
    images = {name: {"drive": drives[name]} for name in cameras.names}
    origin = {"geo_origin": georeference["origin"]} if georeference["is_metric"] else {}
    write_json(out / SIDECAR_NAME, {"version": SIDECAR_VERSION, **origin, "images": images})
    return georeference


def final_frame(cameras: Cameras, shots: Sequence[CapturedImage], use_gps: bool) -> tuple[Similarity, dict[str, Any]]:
    """The frame of the scene: east, north and up in metres by GPS, else level and in the model's scale."""
    poses = cameras.world_from_cam
    places = places_of(shots) if use_gps else None
    if places is None:
        why = f"fewer than {LEAST_POSITIONS} pictures have a GPS position" if use_gps else "--gps ignore was given"
        return _unscaled(poses, why)
    row_of = {shot.name: row for row, shot in enumerate(shots)}
    enu_m = places.enu_m[[row_of[name] for name in cameras.names]]
    extent_m = _extent(enu_m)
    fit = georegister(poses, enu_m, seed=0)
    if fit is None:
        return _unscaled(poses, f"fewer than {LEAST_POSITIONS} of the placed pictures have a GPS position")
    if extent_m < COARSE_M:
        return _unscaled(poses, f"GPS positions lie within {extent_m:.1f} m, which is no more than their error")
    if not fit.is_believed:
        raise UserError(
            f"The GPS positions contradict the pictures: at best they are typically {fit.typical_m:.1f} m off, and "
            f"{fit.chance_m:.1f} m would be chance, over {extent_m:.0f} m. Give the same command with --gps ignore to "
            "use only the pictures, without metres; nothing is computed again."
        )
    return fit.world_from_model, _described(fit, places.origin, cameras, enu_m)


def _unscaled(poses: Float[np.ndarray, "n 3 4"], why: str) -> tuple[Similarity, dict[str, Any]]:
    log.warning("The scene is level but has no metres: %s. One unit counts as a metre from here on.", why)
    return level(poses), {"is_metric": False, "why": why}


def _extent(enu_m: Float[np.ndarray, "n 3"]) -> float:
    """Diagonal of the box that holds all except a tenth at each side."""
    low, high = np.nanpercentile(enu_m[:, :2], (10, 90), axis=0)
    return float(np.linalg.norm(high - low))


def _described(
    fit: Fit, origin: tuple[float, float, float], cameras: Cameras, enu_m: Float[np.ndarray, "n 3"]
) -> dict[str, Any]:
    centers_m = fit.world_from_model.points(cameras.world_from_cam[:, :, 3])
    least_m = max(_LEAST_BASELINE_M, 5 * fit.typical_m)
    ratio = scale_against_gps(centers_m, enu_m, least_m)
    log.info(
        "East, north and up in metres by %d GPS positions, which are typically %.1f m off.",
        int(np.isfinite(fit.residuals_m).sum()),
        fit.typical_m,
    )
    if fit.altitude_residual_m is not None and fit.altitude_residual_m > max(COARSE_M, 2 * fit.typical_m):
        log.warning("GPS altitudes are typically %.0f m off; only their median is used.", fit.altitude_residual_m)
    residuals = zip(cameras.names, fit.residuals_m, enu_m, strict=True)
    return {
        "is_metric": True,
        "frame": "x east, y north, z up, metres",
        "origin": dict(zip(("latitude_deg", "longitude_deg", "altitude_m"), origin, strict=True)),
        "typical_residual_m": round(fit.typical_m, 3),
        "residual_by_chance_m": round(fit.chance_m, 3),
        "altitude_residual_m": None if fit.altitude_residual_m is None else round(fit.altitude_residual_m, 3),
        "metres_per_gps_metre": None if ratio is None else round(ratio, 4),
        "gps": {name: _rounded(enu, off) for name, off, enu in residuals if np.isfinite(off)},
    }


def _rounded(enu_m: Float[np.ndarray, "3"], residual_m: float) -> dict[str, float]:
    east_m, north_m, residual_m = (round(float(value), 3) for value in (*enu_m[:2], residual_m))
    return {"east_m": east_m, "north_m": north_m, "residual_m": residual_m}


def _write_model(folder: Path, model: Any) -> None:
    """The folder appears with all its files at once and replaces an older model at the last moment."""
    unfinished = disk.temporary(folder)
    disk.remove_tree(unfinished)
    try:
        sweep_once(folder.parent)
        recover_folder(folder)
        disk.make_folder(unfinished)
        disk.by_library(unfinished, lambda: model.write_binary(str(unfinished)))
        for other in (path for path in folder.glob("*") if path.name not in MODEL_FILES):  # somebody else's
            disk.link(other, unfinished / other.name)
        for path in (*sorted(unfinished.iterdir()), unfinished):
            disk.fsync_path(path)
        put_folder(unfinished, folder)
    except OSError as error:
        raise UserError(f"Cannot write the model {folder}: {reason(error)}; {remedy(error)}.") from error
    finally:
        disk.remove_tree(unfinished)
