"""How well blocks of a synthetic city know what they see: area under the curve (AUC) against the ray-traced truth.

Pairs of a camera and a place on a surface. Seen: the first surface along a ray of that camera. Unseen: a surface in
its view that something hides by half a metre or more. Cameras: those that the block learned from, its held-out ones,
and positions 1.5 to 8 m beside its training cameras. `geometry` takes places that the block's training images show (by
their depth maps); `knowledge` takes all, and calls those that they do not show unseen. Also the mean visibility that
selects blocks, in the views of the block's own test images and of those that are nearest to other blocks.

`walls`: of blocks near enough to take part in a picture, those that truly know nothing of it (their training images
show less than BLIND of its surfaces: walls stand between) and those that truly know it (more than half), and how many
of either kind the city still asks for the picture. Views: those of the test images, and from beside training cameras.

python -m benchmarks.quality.visibility SCENE OUT [--config FILE] [--skip-training] [section.key=value ...]

SCENE is one that `blocknerf synth` wrote.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.quality.town import parser, trace_town, train
from benchmarks.report import report
from blocknerf.blocks.plan import BlockSpec, Plan, read_plan
from blocknerf.city.city import City, coarse_rows
from blocknerf.core.config.load import load_config
from blocknerf.core.seeds import derive_seed
from blocknerf.core.types import RayBatch
from blocknerf.models.block_file import read_block
from blocknerf.models.block_nerf import BlockNeRF, load_block
from blocknerf.scene.photographs import read_masks
from blocknerf.scene.rays import camera_rays
from blocknerf.scene.readers.read import read_scene
from blocknerf.scene.scene import ImageRecord, Scene

CAMERAS, PLACES_PER_CAMERA, PLACES_PER_IMAGE = 60, 60, 60
BLIND = 0.02
VIEWS_BESIDE = 240
FARTHEST_M, HIDDEN_BY_M = 80.0, 0.5
HALF_VIEW = 0.77, 0.58
"""Tangents of half the opening angles, across and down, in which places are taken."""


@dataclass(frozen=True)
class Pairs:
    """Cameras and places [N, 3] in metres, whether the place is seen from there, and whether the block knows it."""

    cameras: np.ndarray
    places: np.ndarray
    seen: np.ndarray
    known: np.ndarray


def main() -> None:
    arguments = parser(__doc__).parse_intermixed_args()
    train(arguments)
    dataset = load_config(arguments.out / "config.json", ("dataset.use_depth=true",)).dataset
    scene = read_scene(arguments.scene, dataset)
    plan = read_plan(arguments.out / "plan.json")
    rows = [
        row(arguments.out, scene, plan, block)
        for block in plan.blocks
        if (arguments.out / "blocks" / block.id / "latest.json").exists()
    ]
    walls = behind_walls(City.open(arguments.out), scene, plan)
    name = f"visibility, AUC by true depth, {arguments.scene.name}: training cameras, held-out, beside"
    cells = {"must": "0.95", "measured": in_words([each["auc"] for each in rows])}
    walls_name = f"blocks behind walls, {arguments.scene.name}: near enough for a picture of which they know nothing"
    report(
        "quality/visibility",
        {name: cells, walls_name: {"must": "not selected", "measured": walls_in_words(walls)}},
        details={name: {"blocks": rows}, walls_name: walls},
    )


def in_words(aucs: list[dict]) -> str:
    """Of blocks: the median and the lowest, of the places that they were shown and of all."""
    parts = []
    for places in ("geometry", "knowledge"):
        of_cameras = [[auc[name][places] for auc in aucs] for name in ("training", "held_out", "beside")]
        medians, lowest = (", ".join(f"{of(values):.3f}" for values in of_cameras) for of in (np.median, min))
        parts.append(f"{places}: medians of blocks {medians}, lowest block {lowest}")
    return "; ".join(parts)


def walls_in_words(walls: dict) -> str:
    parts = []
    for kind, what in (("blind", f"show less than {BLIND:.0%} of it"), ("knowing", "know more than half of it")):
        if kind in walls:
            of = walls[kind]
            parts.append(
                f"of {of['near_enough']} blocks that {what} {of['selected']} selected, with up to "
                f"{of['most_weight']:.1%} of the picture"
            )
    return "; ".join(parts) or "no block stands behind a wall"


def row(out: Path, scene: Scene, plan: Plan, block: BlockSpec) -> dict:
    file = read_block(out / "blocks" / block.id, "latest")
    model = load_block(file)
    assert isinstance(model, BlockNeRF)
    truth = Truth(scene, block)
    images = {image.id: image for image in scene.images}
    training_images = [images[image_id] for image_id in block.train_images]
    held_out = [images[image_id] for image_id in block.test_images]
    aucs = {}
    for name, poses in {
        "training": truth.sample([image.world_from_cam for image in training_images]),
        "held_out": truth.sample([image.world_from_cam for image in held_out]),
        "beside": truth.beside(training_images),
    }.items():
        pairs = truth.pairs(poses, training_images)
        visible = ask(model, pairs)
        aucs[name] = {
            "pairs": len(pairs.seen),
            "geometry": round(auc(visible[pairs.known], pairs.seen[pairs.known]), 3),
            "knowledge": round(auc(visible, pairs.seen & pairs.known), 3),
        }
    means = mean_visibilities(model, City.open(out), plan, block, scene)
    return {"block": block.id, "steps": file.meta.step, "auc": aucs, "mean_visibility": means}


def mean_visibilities(model: BlockNeRF, city: City, plan: Plan, block: BlockSpec, scene: Scene) -> dict:
    """Of test views to which this block is nearest, and of those to which another one is."""
    near, far = [], []
    images = {image.id: image for image in scene.images}
    tests = {image_id for spec in plan.blocks for image_id in spec.test_images}
    for image_id in sorted(tests):
        image = images[image_id]
        camera = scene.cameras[image.camera_key]
        rays = camera_rays(camera, image.world_from_cam, camera.width, camera.height)
        value = model.mean_visibility(rays[coarse_rows(len(rays))])
        nearest = city.nearest(torch.from_numpy(np.array(image.world_from_cam[:, 3])))
        (near if nearest == block.id else far).append(value)
    groups = {"nearest": near, "not_nearest": far}
    return {name: round(float(np.mean(values)), 3) for name, values in groups.items() if values}


def behind_walls(city: City, scene: Scene, plan: Plan) -> dict:
    """How blocks fare that distance alone would choose, by what they truly know of the picture."""
    images = {image.id: image for image in scene.images}
    tests = sorted({image_id for block in plan.blocks for image_id in block.test_images})
    truth = Truth(scene, plan.blocks[0])
    poses = truth.beside([images[image_id] for block in plan.blocks for image_id in block.train_images], VIEWS_BESIDE)
    poses += [images[image_id].world_from_cam for image_id in tests]
    camera = next(iter(scene.cameras.values()))
    near_enough, shares, places = [], [], []
    for pose in poses:
        center = torch.from_numpy(np.array(pose[:, 3]))
        rays = camera_rays(camera, pose, camera.width // 4, camera.height // 4)
        near_enough.append(city.weights(center))
        shares.append({layer.block_id: layer.weight for layer in city.layers(rays, center)})
        places.append(truth.seen_from(pose))
    kinds: dict[str, list[float]] = {"blind": [], "knowing": []}
    for block in plan.blocks:
        asked = [view for view, weights in enumerate(near_enough) if block.id in weights]
        training_images = [images[image_id] for image_id in block.train_images]
        seen = (
            truth.is_seen_by(training_images, np.concatenate([places[view] for view in asked]))
            if asked
            else np.zeros(0, bool)
        )
        ends = np.cumsum([len(places[view]) for view in asked])
        for view, part in zip(asked, np.split(seen, ends[:-1]), strict=True):
            known = float(part.mean()) if len(part) else 0.0
            if known < BLIND or known > 0.5:
                kinds["blind" if known < BLIND else "knowing"].append(shares[view].get(block.id, 0.0))
    return {kind: chosen(weights) for kind, weights in kinds.items() if weights}


def chosen(weights: list[float]) -> dict:
    count = int(np.count_nonzero(weights))
    return {"near_enough": len(weights), "selected": count, "most_weight": round(max(weights), 4)}


def ask(model: BlockNeRF, pairs: Pairs) -> np.ndarray:
    cameras, places = (torch.from_numpy(array).float() for array in (pairs.cameras, pairs.places))
    ways = places - cameras
    distances_m = ways.norm(dim=-1)
    count = len(ways)
    rays = RayBatch(cameras, ways / distances_m[:, None], torch.full((count,), -1), torch.zeros(count))
    return model.visibility_along(rays, distances_m).numpy()


def auc(scores: np.ndarray, labels: np.ndarray) -> float:
    """How often a positive scores above a negative; ties count half."""
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    positives = int(labels.sum())
    negatives = len(labels) - positives
    return float((ranks[labels].sum() - positives * (positives + 1) / 2) / (positives * negatives))


class Truth:
    """The city without what moves in it, and what its images show."""

    def __init__(self, scene: Scene, block: BlockSpec):
        _, self.tracer = trace_town(scene.root)
        self.scene = scene
        self.rng = np.random.default_rng(derive_seed(0, "visibility", block.id))
        places = np.concatenate([self._surfaces(image) for image in scene.images])
        self.places = places[np.abs(places - block.center_world).max(axis=1) < 2 * block.radius_m]

    def sample(self, poses: list[np.ndarray]) -> list[np.ndarray]:
        return [poses[i] for i in self.rng.choice(len(poses), min(CAMERAS, len(poses)), replace=False)]

    def beside(self, images: list[ImageRecord], count: int = CAMERAS) -> list[np.ndarray]:
        """Poses beside those of the images, looking anywhere, not behind a wall: 1.5 to 8 m away, 0.8 to 6 m high."""
        poses = []
        while len(poses) < count:
            start = images[self.rng.integers(len(images))].world_from_cam[:, 3]
            bearing, yaw = self.rng.uniform(0, 2 * np.pi, 2)
            away = self.rng.uniform(1.5, 8) * np.array([np.cos(bearing), np.sin(bearing), 0])
            center = np.array([start[0] + away[0], start[1] + away[1], self.rng.uniform(0.8, 6)])
            if self._first_hits(start[None], center[None])[0] > 0.3:
                right, forward = np.array([np.sin(yaw), -np.cos(yaw), 0]), np.array([np.cos(yaw), np.sin(yaw), 0])
                poses.append(np.stack([right, [0, 0, -1], forward, center], axis=1))
        return poses

    def pairs(self, poses: list[np.ndarray], images: list[ImageRecord]) -> Pairs:
        cameras, places, seen = [], [], []
        for pose in poses:
            visible, hidden = self.seen_from(pose), self._hidden_from(pose)
            count = min(len(visible), len(hidden))
            for group, label in ((visible, True), (hidden, False)):
                places.append(group[self.rng.choice(len(group), count, replace=False)])
                cameras.append(np.repeat(pose[None, :, 3], count, 0))
                seen.append(np.full(count, label))
        every = np.concatenate(places)
        return Pairs(np.concatenate(cameras), every, np.concatenate(seen), self.is_seen_by(images, every))

    def seen_from(self, pose: np.ndarray) -> np.ndarray:
        across = self.rng.uniform(-1, 1, (PLACES_PER_CAMERA, 2)) * HALF_VIEW
        directions = np.concatenate([across, np.ones((PLACES_PER_CAMERA, 1))], 1) @ pose[:, :3].T
        directions = np.ascontiguousarray(directions / np.linalg.norm(directions, axis=1)[:, None], np.float32)
        origins = np.repeat(pose[None, :, 3], PLACES_PER_CAMERA, 0).astype(np.float32)
        triangle, distance_m = self.tracer.first_hits(origins, directions)
        hit = (triangle >= 0) & (distance_m < FARTHEST_M)
        return (origins + distance_m[:, None] * directions)[hit].astype(np.float64)

    def _hidden_from(self, pose: np.ndarray) -> np.ndarray:
        x, y, z = ((self.places - pose[:, 3]) @ pose[:, :3]).T
        distance_m = np.linalg.norm(self.places - pose[:, 3], axis=1)
        inside = (z > 0.5) & (np.abs(x) < HALF_VIEW[0] * z) & (np.abs(y) < HALF_VIEW[1] * z) & (distance_m < FARTHEST_M)
        places = self.places[inside]
        beyond_m = -self._first_hits(np.repeat(pose[None, :, 3], len(places), 0), places)
        return places[beyond_m > HIDDEN_BY_M]

    def _first_hits(self, cameras: np.ndarray, places: np.ndarray) -> np.ndarray:
        """How far behind the places the first surface on the way to them lies; negative: before them."""
        ways = places - cameras
        distance_m = np.linalg.norm(ways, axis=1)
        directions = np.ascontiguousarray(ways / np.maximum(distance_m, 1e-9)[:, None], np.float32)
        triangle, hit_m = self.tracer.first_hits(np.ascontiguousarray(cameras, np.float32), directions)
        return np.where(triangle < 0, np.inf, hit_m - distance_m)

    def _surfaces(self, image: ImageRecord) -> np.ndarray:
        """Random places that an image shows, by its depth map, moving things left out."""
        assert image.depth_path is not None
        depth_z_m = np.load(image.depth_path)
        rows, columns = (self.rng.integers(0, size, PLACES_PER_IMAGE) for size in depth_z_m.shape)
        keep = depth_z_m[rows, columns] > 0
        mask = read_masks(image.mask_paths, depth_z_m.shape[::-1])
        if mask is not None:
            keep &= mask[rows, columns]
        fx, fy, cx, cy = self.scene.cameras[image.camera_key].params
        z = depth_z_m[rows, columns]
        in_camera = np.stack([(columns + 0.5 - cx) / fx * z, (rows + 0.5 - cy) / fy * z, z], axis=1)[keep]
        return in_camera @ image.world_from_cam[:, :3].T + image.world_from_cam[:, 3]

    def is_seen_by(self, images: list[ImageRecord], places: np.ndarray) -> np.ndarray:
        """Whether any image shows each place: its depth there is the map's, to 2 % and 10 cm."""
        seen = np.zeros(len(places), bool)
        for image in images:
            assert image.depth_path is not None
            depth_z_m = np.load(image.depth_path)
            fx, fy, cx, cy = self.scene.cameras[image.camera_key].params
            x, y, z = ((places - image.world_from_cam[:, 3]) @ image.world_from_cam[:, :3]).T
            ahead = np.maximum(z, 0.1)
            columns, rows = np.floor(x / ahead * fx + cx), np.floor(y / ahead * fy + cy)
            height, width = depth_z_m.shape
            inside = np.flatnonzero((z > 0.1) & (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height))
            map_z_m = depth_z_m[rows[inside].astype(int), columns[inside].astype(int)]
            seen[inside] |= np.abs(map_z_m - z[inside]) < 0.02 * z[inside] + 0.1
        return seen


if __name__ == "__main__":
    main()
