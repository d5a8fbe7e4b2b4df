"""How good a prepared scene is: figures as JSON, two pictures, and a page that shows them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from blocknerf.core.config.dataset import DatasetConfig
from blocknerf.core.files import write_bytes, write_json
from blocknerf.prepare.colmap import Model
from blocknerf.prepare.quality_page import quality_page
from blocknerf.prepare.quality_pictures import draw_coverage, draw_from_above
from blocknerf.prepare.shots import CapturedImage
from blocknerf.prepare.write_scene import MODEL
from blocknerf.scene.colmap_module import pycolmap
from blocknerf.scene.readers.read import read_scene

GRID_WH = (16, 12)
"""Cells of a picture, for the share of it that has points."""
_FOLDER = "quality"


@dataclass(frozen=True, slots=True)
class Found:
    """Results of the stages; `features` and `partners` are counts by name, `models` are sorted, largest first."""

    shots: Sequence[CapturedImage]
    features: dict[str, int]
    matching: str
    partners: dict[str, int]
    attempt: str
    models: Sequence[Model]
    georeference: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Seen:
    """What one placed picture sees: places of its points in it, from 0 to 1, and their errors in pixels."""

    xy: Float[np.ndarray, "n 2"]
    errors_px: Float[np.ndarray, "n"]

    def cells(self) -> Float[np.ndarray, "rows columns"]:
        """How many points are in each cell of the picture."""
        columns, rows = GRID_WH
        counts, _, _ = np.histogram2d(self.xy[:, 1], self.xy[:, 0], (rows, columns), ((0, 1), (0, 1)))
        return counts


def write_quality(out: Path, found: Found) -> dict[str, Any]:
    """Writes OUT/quality/: quality.json, index.html, map.png, coverage.png; returns the content of the JSON.

    Raises UserError if the scene in `out` cannot be read like any other.
    """
    scene = read_scene(out, DatasetConfig(alpha="black"))
    model = pycolmap.Reconstruction(str(out / MODEL))
    seen = seen_by_image(model)
    figures = quality_figures(found, model, seen) | {
        "with_exposure": sum(image.exposure is not None for image in scene.images),
        "drives": {
            drive: sum(image.drive == drive for image in scene.images)
            for drive in sorted({image.drive for image in scene.images})
        },
    }
    folder = out / _FOLDER
    write_json(folder / "quality.json", figures)
    draw_from_above(folder / "map.png", scene, found.georeference.get("gps", {}))
    draw_coverage(folder / "coverage.png", np.mean([one.cells() for one in seen.values()], axis=0))
    write_bytes(folder / "index.html", quality_page(figures).encode())
    return figures


def seen_by_image(model: Any) -> dict[str, Seen]:
    """By name, for every placed picture of a `pycolmap.Reconstruction`."""
    points = {number: point.xyz for number, point in model.points3D.items()}
    return {model.image(number).name: _seen(model.image(number), points) for number in sorted(model.reg_image_ids())}


def _seen(image: Any, points: dict[int, np.ndarray]) -> Seen:
    observed = image.get_observation_points2D()
    xy = np.array([point.xy for point in observed], np.float64).reshape(-1, 2)
    xyz = np.array([points[point.point3D_id] for point in observed], np.float64).reshape(-1, 3)
    cam_from_world = image.cam_from_world().matrix()
    in_camera = xyz @ cam_from_world[:, :3].T + cam_from_world[:, 3]
    projected = image.camera.img_from_cam(in_camera) if len(xyz) else xy
    size = np.array([image.camera.width, image.camera.height])
    return Seen(xy / size, np.linalg.norm(projected - xy, axis=1))


def quality_figures(found: Found, model: Any, seen: dict[str, Seen]) -> dict[str, Any]:
    """Everything the page shows, in JSON types."""
    errors = np.concatenate([one.errors_px for one in seen.values()])
    coverage = {name: float((one.cells() > 0).mean()) for name, one in seen.items()}
    residuals = {name: gps["residual_m"] for name, gps in found.georeference.get("gps", {}).items()}
    images = {
        name: {
            "points": len(one.errors_px),
            "reprojection_px": round(float(one.errors_px.mean()), 3) if len(one.errors_px) else None,
            "coverage": round(coverage[name], 3),
            "partners": found.partners.get(name, 0),
            "gps_residual_m": residuals.get(name),
        }
        for name, one in sorted(seen.items())
    }
    return {
        "version": 1,
        "pictures": len(found.shots),
        "registered": len(seen),
        "matching": found.matching,
        "mapping": found.attempt,
        "points": model.num_points3D(),
        "track_length": round(model.compute_mean_track_length(), 2),
        "reprojection_px": round(float(errors.mean()), 3),
        "coverage": round(float(np.mean(list(coverage.values()))), 3),
        "georeference": {key: value for key, value in found.georeference.items() if key != "gps"},
        "cameras": {
            str(number): {
                "model": camera.model_name,
                "width": camera.width,
                "height": camera.height,
                "params": [round(float(value), 6) for value in camera.params],
            }
            for number, camera in sorted(model.cameras.items())
        },
        "components": [{"images": len(one.names), "points": one.points} for one in found.models],
        "images": images,
        "left_out": left_out(found, set(seen)),
    }


def left_out(found: Found, placed: set[str]) -> dict[str, str]:
    """Why each of the other pictures has no pose."""
    component = {name: number for number, one in reversed(list(enumerate(found.models, 1))) for name in one.names}
    reasons = {}
    for shot in found.shots:
        if shot.name in placed:
            continue
        if not found.features.get(shot.name):
            reasons[shot.name] = "no features were found in it"
        elif not found.partners.get(shot.name):
            reasons[shot.name] = "it matches no other picture"
        elif shot.name in component:
            reasons[shot.name] = f"it belongs to component {component[shot.name]}, which nothing joins to the largest"
        else:
            reasons[shot.name] = "its matches do not settle where it stands"
    return reasons
