"""Distance between the mesh of the trained synthetic street and its true geometry, both ways.

Accuracy is measured from the mesh to the true surface, completeness from places of the true surface that training
cameras see to the mesh; both within 15 m of a camera, in metres.

python -m benchmarks.quality.mesh SCENE CITY [--mesh FILE.ply] [--within 15]   (SCENE is made by `blocknerf synth`)
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import trimesh
from scipy.spatial import KDTree

from benchmarks.measure import blocknerf, run
from benchmarks.report import report
from benchmarks.results import measured
from blocknerf.core.config.dataset import DatasetConfig
from blocknerf.core.seeds import derive_seed
from blocknerf.scene.rays import camera_rays
from blocknerf.scene.readers.read import read_scene
from blocknerf.scene.scene import Scene
from blocknerf.synth.presets import PRESETS
from blocknerf.synth.town import build_town
from blocknerf.synth.tracer import Tracer

SAMPLES_PER_M2 = 60
PLACES = 50_000
CANDIDATES = 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scene", type=Path)
    parser.add_argument("city", type=Path)
    parser.add_argument("--mesh", type=Path, help="an exported mesh (default: run `blocknerf export mesh`)")
    parser.add_argument("--within", type=float, default=15.0)
    arguments, options = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as folder:
        path, cost = arguments.mesh, {}
        if path is None:
            path = Path(folder) / "mesh.ply"
            exported = run(blocknerf("export", "mesh", arguments.city, "--out", path, *options))
            cost = {"wall_s": round(exported.seconds), "peak_gb": round(exported.peak_gb, 2)}
        mesh = trimesh.load(path, process=False)
    scene = read_scene(arguments.scene, DatasetConfig())
    figures = row(mesh, scene, arguments.scene, arguments.within)
    note = f"9 of 10 within {figures['accuracy_p90_m']:.2f} m; "
    note += f"from true places to the mesh {figures['completeness_median_m']:.3f} m in the median"
    name = f"mesh of {arguments.city.name} against its true geometry, within {arguments.within:g} m of cameras"
    cells = {"must": "median 0.10 m", "measured": measured(figures["accuracy_median_m"], "m", ".3f", note)}
    report("quality/mesh", {name: cells}, details={name: figures | cost})


def row(mesh, scene: Scene, folder: Path, within_m: float) -> dict:
    rng = np.random.default_rng(0)
    cameras = KDTree(scene.centers_world)
    made = json.loads((folder / "synth.json").read_text())
    town = build_town(PRESETS[made["preset"]].plan, np.random.default_rng(derive_seed(made["seed"], "town")))
    true = Surface(town.triangles.astype(float), cameras, within_m + 3, rng)
    found = Surface(mesh.triangles, cameras, within_m + 3, rng)
    on_mesh = _near(found.places, cameras, within_m, rng)
    accuracy = true.distances_m(on_mesh)
    completeness = found.distances_m(_near(_seen(scene, Tracer(town, len(town.triangles))), cameras, within_m, rng))
    return {
        "scene": folder.name,
        "within_m": within_m,
        "triangles": len(mesh.faces),
        "area_m2": round(float(mesh.area)),
        **_figures("accuracy", accuracy),
        **_figures("completeness", completeness),
        "complete_within_0.2_m": round(float((completeness < 0.2).mean()), 3),
    }


class Surface:
    """Triangles, and places on them near cameras: the nearest place's triangles are asked for the exact distance."""

    def __init__(self, triangles: np.ndarray, cameras: KDTree, within_m: float, rng: np.random.Generator):
        self._triangles = triangles
        a, b, c = triangles.transpose(1, 0, 2)
        areas = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2
        counts = np.ceil(np.minimum(areas * SAMPLES_PER_M2, 4e6)).astype(int)
        places, owners = [], []
        for chunk in np.array_split(np.arange(len(triangles)), max(1, counts.sum() // 2_000_000)):
            of = np.repeat(chunk, counts[chunk])
            points = _on_triangles(triangles[of], rng)
            near = np.isfinite(cameras.query(points, distance_upper_bound=within_m)[0])
            places.append(points[near])
            owners.append(of[near])
        self.places, self._owners = np.concatenate(places), np.concatenate(owners)
        self._tree = KDTree(self.places)

    def distances_m(self, points: np.ndarray) -> np.ndarray:
        nearest_m, rows = self._tree.query(points, k=CANDIDATES)
        best_m = nearest_m[:, 0]
        for column in self._owners[rows].T:
            closest = trimesh.triangles.closest_point(self._triangles[column], points)
            best_m = np.minimum(best_m, np.linalg.norm(closest - points, axis=1))
        return best_m


def _on_triangles(triangles: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A place on each, evenly distributed."""
    root, part = np.sqrt(rng.random(len(triangles)))[:, None], rng.random(len(triangles))[:, None]
    a, b, c = triangles.transpose(1, 0, 2)
    return (1 - root) * a + root * (1 - part) * b + root * part * c


def _seen(scene: Scene, tracer: Tracer) -> np.ndarray:
    """Where every second ray of every fifth training camera first meets the still town."""
    places = []
    for image in scene.images[::5]:
        camera = scene.cameras[image.camera_key]
        rays = camera_rays(camera, image.world_from_cam, camera.width, camera.height)[::2]
        origins, directions = rays.origins.numpy(), rays.directions.numpy()
        triangle, distance_m = tracer.first_hits(np.ascontiguousarray(origins), np.ascontiguousarray(directions))
        places.append((origins + distance_m[:, None] * directions)[triangle >= 0])
    return np.concatenate(places).astype(float)


def _near(places: np.ndarray, cameras: KDTree, within_m: float, rng: np.random.Generator) -> np.ndarray:
    near = places[np.isfinite(cameras.query(places, distance_upper_bound=within_m)[0])]
    return near[rng.permutation(len(near))[:PLACES]]


def _figures(name: str, distances_m: np.ndarray) -> dict:
    return {
        f"{name}_{part}_m": round(float(np.quantile(distances_m, share)), 3)
        for part, share in (("median", 0.5), ("p90", 0.9))
    }


if __name__ == "__main__":
    main()
