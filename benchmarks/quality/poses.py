"""The worth of pose refinement: poses of a synthetic scene are changed by known motions, and learned back.

python -m benchmarks.quality.poses SCENE OUT [--by drive|segment|image] [--translation-m 0.3] [--rotation-deg 1]
    [--seed 0] [--pieces N] [section.key=value ...]

One block is trained three times on the same number of rays: with true poses, with changed poses, and with changed poses
that are refined. Each drive (or segment, or image) is changed by a motion of the given size in a random direction: a
turn about the centroid of its cameras, then a shift. `synth --preset passes` is one drive of five segments, all on the
same street; with --pieces, its segments are that many pieces of the street, one after the other. Errors are medians
over training images, after the rigid motion (no scale) that best fits all cameras to the true ones, centres and axes
together; the same holds for the changed poses.

Test images of a changed drive or segment are changed like it, and get its learned offset; none of their pixels is used.
Single test images cannot get an offset, so with --by image they are rendered from their true poses, transformed by the
same fit into the frame of the training poses; without refinement, too.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.report import report
from blocknerf.blocks.planner import make_plan
from blocknerf.core.config.config import Config
from blocknerf.core.config.load import load_config
from blocknerf.core.types import Appearance
from blocknerf.geometry import se3, so3
from blocknerf.models.block_nerf import BlockNeRF
from blocknerf.rendering.quality import psnr
from blocknerf.scene.rays import rays_from_directions
from blocknerf.scene.readers.read import read_scene
from blocknerf.scene.scene import ImageRecord, Scene, scene_hash
from blocknerf.scene.store import ImageStore
from blocknerf.training.block.inputs import BlockFolders, BlockInputs
from blocknerf.training.block.trainer import BlockNeRFTrainer

AXES_M = 10.0
"""A turn counts in the fit by how it moves a point this far from the camera."""

MUST = {
    "drive": "at most 10 % left; 80 % of the lost PSNR back",
    "segment": "at most 20 % left; 70 % of the lost PSNR back",
    "image": "at most 10 % left; 80 % of the lost PSNR back",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scene", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--config", type=Path)
    parser.add_argument("--by", choices=("drive", "segment", "image"), default="drive")
    parser.add_argument("--translation-m", type=float, default=0.3)
    parser.add_argument("--rotation-deg", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pieces", type=int)
    parser.add_argument("--only", choices=("true", "spoilt", "refined"))
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_intermixed_args()

    by = arguments.by
    settings = ("block_manager.max_blocks=1", f"pose_refinement.mode={by}", "logging.use_tensorboard=false")
    settings += ("validation.num_val_images=0", *arguments.overrides)
    config = load_config(arguments.config, settings)
    truth = read_scene(arguments.scene, config.dataset)
    truth = truth if arguments.pieces is None else cut(truth, arguments.pieces)
    rng = np.random.default_rng(arguments.seed)
    spoilt = spoil(truth, by, arguments.translation_m, np.deg2rad(arguments.rotation_deg), rng)
    runs = {"true": (truth, False), "spoilt": (spoilt, False), "refined": (spoilt, True)}
    row: dict = {"scene": arguments.scene.name, "by": by, "pieces": arguments.pieces, "seed": arguments.seed}
    for name, (scene, refine) in runs.items():
        if arguments.only in (None, name):
            refined = load_config(arguments.config, [*settings, f"training.use_pose_refinement={str(refine).lower()}"])
            row[name] = train(refined, scene, truth, arguments.out, name, by)
            print(json.dumps({name: row[name]}), flush=True)
    if arguments.only is None:
        lost, back = row["true"]["psnr"] - row["spoilt"]["psnr"], row["refined"]["psnr"] - row["spoilt"]["psnr"]
        left = {key: row["refined"][key] / row["spoilt"][key] for key in ("error_m", "error_deg")}
        row |= {"psnr_back": round(back / lost, 3), **{f"{key}_left": round(part, 3) for key, part in left.items()}}
        name = row_name(arguments)
        report("quality/poses", {name: {"must": MUST[by], "measured": in_words(row)}}, details={name: row})


def row_name(arguments: argparse.Namespace) -> str:
    pieces = "" if arguments.pieces is None else f", cut into {arguments.pieces} pieces"
    off = f"{arguments.translation_m:g} m and {arguments.rotation_deg:g} degree{'s' * (arguments.rotation_deg != 1)}"
    return f"poses of {arguments.scene.name}{pieces}, each {arguments.by} put off by {off}"


def in_words(row: dict) -> str:
    true, spoilt, refined = (row[name] for name in ("true", "spoilt", "refined"))
    return (
        f"{row['error_m_left']:.1%} of the shift and {row['error_deg_left']:.1%} of the turn left "
        f"({spoilt['error_m']:.3f} m to {refined['error_m']:.4f}, {spoilt['error_deg']:.3f} degrees to "
        f"{refined['error_deg']:.4f}); PSNR {row['psnr_back']:.0%} back (true {true['psnr']:.2f}, spoilt "
        f"{spoilt['psnr']:.2f}, refined {refined['psnr']:.2f})"
    )


def cut(scene: Scene, pieces: int) -> Scene:
    """The scene with segments that follow each other along its longest extent, with as many images each."""
    away = scene.centers_world - scene.centers_world.mean(0)
    along = away @ np.linalg.svd(away, full_matrices=False)[2][0]
    numbers = pieces * np.argsort(np.argsort(along, kind="stable"), kind="stable") // len(along)
    images = zip(scene.images, numbers, strict=True)
    return replace(scene, images=tuple(replace(image, segment=f"piece {number}") for image, number in images))


def spoil(scene: Scene, by: str, shift_m: float, turn_rad: float, rng: np.random.Generator) -> Scene:
    """The scene with every drive, segment or image moved by a turn and a shift of that size in random directions."""
    moved: dict[str, np.ndarray] = {}
    groups: dict[str, list[ImageRecord]] = {}
    for image in scene.images:
        groups.setdefault({"drive": image.drive, "segment": image.segment, "image": image.id}[by], []).append(image)
    for images in groups.values():
        centroid = np.mean([image.world_from_cam[:, 3] for image in images], axis=0)
        axis, way = (vector / np.linalg.norm(vector) for vector in rng.normal(size=(2, 3)))
        turn = so3.exp(torch.from_numpy(turn_rad * axis)).numpy()
        for image in images:
            center = turn @ (image.world_from_cam[:, 3] - centroid) + centroid + shift_m * way
            moved[image.id] = np.concatenate([turn @ image.world_from_cam[:, :3], center[:, None]], axis=1)
    return replace(scene, images=tuple(replace(image, world_from_cam=moved[image.id]) for image in scene.images))


def train(config: Config, scene: Scene, truth: Scene, out: Path, name: str, by: str) -> dict:
    """Trains one block; returns its test PSNR, the pose errors left, and what it took."""
    store = ImageStore.open(scene, config.dataset.image_downsample, out / "store")
    plan = make_plan(scene, config)
    block = plan.blocks[0]
    trainer = BlockNeRFTrainer(BlockInputs(config, block, store, scene_hash(scene)), BlockFolders(out / name))
    result = trainer.train()
    model = trainer.model.eval()
    true_poses = {image.id: torch.from_numpy(image.world_from_cam) for image in truth.images}
    learned = {image_id: learned_pose(model, store.records[image_id]) for image_id in trainer.image_ids}
    true_from_learned = rigid_fit([learned[i] for i in learned], [true_poses[i] for i in learned])
    errors = np.array([pose_error(se3.compose(true_from_learned, learned[i]), true_poses[i]) for i in learned])
    figures = []
    for image_id in block.test_images:
        record = store.records[image_id]
        pose = learned_pose(model, record)
        if by == "image":
            pose = se3.compose(se3.inverse(true_from_learned), true_poses[image_id])
        rays = rays_from_directions(store.directions_cam(image_id), pose.numpy())
        picture = model.render(rays, model.code_for(Appearance(drive=record.drive))).reshape(*store.size(image_id))
        photograph = torch.from_numpy(store.rgb(image_id).astype(np.float32) / 255)
        figures.append(psnr(picture.rgb, photograph, torch.from_numpy(store.valid(image_id).copy())))
    return {
        "psnr": round(float(np.mean(figures)), 2),
        "error_m": round(float(np.median(errors[:, 0])), 4),
        "error_deg": round(float(np.median(errors[:, 1])), 4),
        "steps": result.steps,
        "train_s": round(result.train_s),
    }


def learned_pose(model: BlockNeRF, record: ImageRecord) -> torch.Tensor:
    return model.refined_pose(torch.from_numpy(record.world_from_cam), record.id, record.drive, record.segment)


def rigid_fit(moving: list[torch.Tensor], fixed: list[torch.Tensor]) -> torch.Tensor:
    """fixed_from_moving [3, 4]: the motion that fits centres and points on the axes best (Umeyama 1991, no scale)."""
    a, b = (np.concatenate([points_of(pose.numpy()) for pose in poses]) for poses in (moving, fixed))
    middle_a, middle_b = a.mean(0), b.mean(0)
    left, _, right = np.linalg.svd((b - middle_b).T @ (a - middle_a))
    turn = left @ np.diag([1, 1, np.linalg.det(left @ right)]) @ right
    return torch.from_numpy(np.concatenate([turn, (middle_b - turn @ middle_a)[:, None]], axis=1))


def points_of(pose: np.ndarray) -> np.ndarray:
    center, axes = pose[:, 3], AXES_M * pose[:, :3].T
    return np.concatenate([center[None], center + axes, center - axes])


def pose_error(pose: torch.Tensor, true_pose: torch.Tensor) -> tuple[float, float]:
    """Metres between the centres, degrees between the rotations."""
    turn = so3.log(pose[:, :3] @ true_pose[:, :3].mT)
    return float((pose[:, 3] - true_pose[:, 3]).norm()), float(turn.norm().rad2deg())


if __name__ == "__main__":
    main()
