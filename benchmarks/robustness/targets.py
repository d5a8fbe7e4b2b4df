"""What is attacked: every reader and every file of ours, each with a tiny valid example and what reads it.

The oracle is the same for all: what is read is finite everywhere, or a UserError of one line says why not.
"""

import dataclasses
import fnmatch
import json
import math
import shutil
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.robustness import mutations as m
from blocknerf.core.errors import MOST_MESSAGE, UserError
from tests.support import writers

Files = dict[str, bytes]


@dataclass(frozen=True)
class Target:
    """`make` writes valid files into an empty folder; `attacked` says by pattern how each kind of file is mutated.

    `read` gets the folder. `forget` has patterns of files that a reading leaves and the next must not find.
    """

    name: str
    make: Callable[[Path], object]
    attacked: Mapping[str, tuple[m.Mutation, ...]]
    read: Callable[[Path], Any]
    forget: tuple[str, ...] = ()
    pairs: Callable[[Random, Files], Files] | None = None
    """Mutates several files together."""


def failure_of(read: Callable[[Path], Any], folder: Path) -> str | None:
    """What is wrong with how the folder is read; None where nothing is."""
    try:
        value = read(folder)
    except UserError as error:
        message = str(error)
        if len(message) > MOST_MESSAGE or not message.isprintable():
            return f"long message: {len(message)} characters"
        return None
    return None if is_finite(value) else f"not finite: {type(value).__name__}"


def is_finite(value: Any) -> bool:
    """Of every number in whatever a reader returns."""
    if isinstance(value, float | np.floating):
        return bool(np.isfinite(value))
    if isinstance(value, np.ndarray):
        return value.dtype.kind not in "fc" or bool(np.isfinite(value).all())
    if isinstance(value, Tensor):
        return not value.is_floating_point() or bool(value.isfinite().all())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return all(is_finite(getattr(value, field.name)) for field in dataclasses.fields(value))
    if isinstance(value, dict):
        return all(map(is_finite, value)) and all(map(is_finite, value.values()))
    return all(map(is_finite, value)) if isinstance(value, list | tuple | set | frozenset) else True


def mutated(target: Target, rng: Random, files: Files) -> Files:
    """One or two of a target's files, changed."""
    if target.pairs is not None and rng.random() < 0.4:
        changed = target.pairs(rng, files)
        return {name: content for name, content in changed.items() if content != files[name]}
    changed = {}
    names = [name for name in files if _ways(target, name)]
    for name in rng.sample(names, min(len(names), rng.choice((1, 1, 1, 2)))):
        changed[name] = rng.choice(_ways(target, name))(rng, files[name])
    return changed


def _ways(target: Target, name: str) -> tuple[m.Mutation, ...]:
    return next((ways for pattern, ways in target.attacked.items() if fnmatch.fnmatch(name, pattern)), ())


# --- captures ---------------------------------------------------------------------------------------------------------


def capture(count: int = 4) -> writers.Capture:
    shots = []
    for number in range(count):
        angle = 0.7 * number
        forward = np.array([math.cos(angle), math.sin(angle), 0.0])
        down = np.array([0.0, 0.0, -1.0])
        shots.append(
            writers.Shot(
                f"{number:03d}.png",
                np.random.default_rng(number).integers(0, 255, (6, 8, 3), np.uint8),
                np.cross(down, forward),
                down,
                forward,
                np.array([0.5 * number, 0.1, 1.5]),
                np.zeros((6, 8), bool),
                exposure=1.0 + number,
                is_test=number == 0,
            )
        )
    return writers.Capture(8, 6, 7.0, shots)


def _scene(kind: str, depth: bool = False) -> Callable[[Path], Any]:
    def read(folder: Path) -> Any:
        from blocknerf.core.config.dataset import DatasetConfig
        from blocknerf.scene.readers.read import read_scene

        return read_scene(folder, DatasetConfig(type=kind, use_depth=depth))  # type: ignore[arg-type]

    return read


def _colmap(kind: str, sidecar: bool = False) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        names = writers.write_colmap(folder, capture())
        model = folder / "sparse" / "0"
        (model / "cameras.txt").write_text("1 OPENCV 8 6 7 7 4 3 0.01 0 0 0\n2 SIMPLE_RADIAL 8 6 7 4 3 0.01\n")
        lines = (model / "images.txt").read_text().split("\n")
        for row in range(1, 8, 2):
            lines[row] = "1.5 2.5 1 3 3 2 4 4 -1"
        (model / "images.txt").write_text("# Number of images: 4, mean\n" + "\n".join(lines))
        (model / "points3D.txt").write_text("1 1 2 3 10 20 30 0.5 1 0 2 0\n2 2 1 0 10 20 30 0.5 1 1\n")
        if kind == "bin":
            _to_binary(model)
        if sidecar:
            writers.write_sidecar(folder, capture(), names)
            held = json.loads((folder / "blocknerf_scene.json").read_text())
            held["geo_origin"] = {"latitude_deg": 50.0, "longitude_deg": 8.0, "altitude_m": 100.0}
            held["images"]["001.png"]["hour"] = 12.5
            (folder / "blocknerf_scene.json").write_text(json.dumps(held))

    return make


def _to_binary(model: Path) -> None:
    cameras = struct.pack("<Q", 2)
    cameras += struct.pack("<IiQQ8d", 1, 4, 8, 6, 7, 7, 4, 3, 0.01, 0, 0, 0)
    cameras += struct.pack("<IiQQ4d", 2, 2, 8, 6, 7, 4, 3, 0.01)
    rows = [line.split() for line in (model / "images.txt").read_text().split("\n") if line.endswith(".png")]
    images = struct.pack("<Q", len(rows))
    for row in rows:
        images += struct.pack("<I7dI", int(row[0]), *map(float, row[1:8]), int(row[8])) + row[9].encode() + b"\0"
        images += struct.pack("<Q", 2) + struct.pack("<2dq2dq", 1.5, 2.5, 1, 3, 3, 2)
    points = struct.pack("<Q", 2)
    for number in (1, 2):
        points += struct.pack("<q3d3BdQ2i", number, number, 2, 3, 10, 20, 30, 0.5, 1, 1, 0)
    for name, content in (("cameras", cameras), ("images", images), ("points3D", points)):
        (model / f"{name}.bin").write_bytes(content)
        (model / f"{name}.txt").unlink()


def _transforms(folder: Path) -> None:
    """With what the dialects of instant-ngp and nerfstudio say: lens, masks, depth, splits, points."""
    writers.write_nerfstudio(folder, capture())
    held = json.loads((folder / "transforms.json").read_text())
    held |= {"k1": 0.01, "k2": 0.0, "p1": 0.0, "p2": 0.0, "ply_file_path": "points.ply", "aabb_scale": 4}
    held |= {"train_filenames": [f"images/00{i}.png" for i in (1, 2, 3)], "test_filenames": ["images/000.png"]}
    held |= {"applied_transform": np.eye(4)[:3].tolist()}
    for number, frame in enumerate(held["frames"]):
        writers.save_png(folder / "masks" / f"{number}.png", np.full((6, 8), 255, np.uint8))
        np.save(folder / f"{number}.npy", np.ones((6, 8), np.float32))
        frame |= {"mask_path": f"masks/{number}.png", "depth_file_path": f"{number}.npy", "exposure": 1.0 + number}
    held["frames"][1] |= {"camera_angle_x": 1.0, "fl_x": None, "w": 8, "h": 6}
    (folder / "transforms.json").write_text(json.dumps(held))
    _points(folder / "points.ply")


def _blender(folder: Path) -> None:
    writers.write_nerfstudio(folder, capture())
    held = json.loads((folder / "transforms.json").read_text())
    frames = [
        {"file_path": f"./{f['file_path'][:-4]}", "transform_matrix": f["transform_matrix"]} for f in held["frames"]
    ]
    (folder / "transforms.json").unlink()
    for split, subset in (("train", frames[:2]), ("val", frames[2:3]), ("test", frames[3:])):
        (folder / f"transforms_{split}.json").write_text(json.dumps({"camera_angle_x": 1.0, "frames": subset}))


def _points(path: Path) -> None:
    from blocknerf.core.ply import write_points

    write_points(path, np.arange(9.0).reshape(3, 3), np.full((3, 3), 7, np.uint8))


def _bundler(folder: Path) -> None:
    writers.write_bundler(folder, capture())
    lines = (folder / "bundle.out").read_text().split("\n")
    lines[1] = "4 2"
    (folder / "bundle.out").write_text(
        "\n".join([*lines[:-1], "1 2 3", "9 9 9", "2 0 1 .5 .5 1 2 .1 .1", "0 0 1", "1 2 3", "1 0 0 0 0", ""])
    )


def _kitti(folder: Path) -> None:
    writers.write_kitti(folder, capture())
    (folder / "times.txt").write_text("0\n1\n2\n3\n")


def _nuscenes(folder: Path) -> None:
    writers.write_nuscenes(folder, capture())


def _waymo(folder: Path) -> None:
    writers.write_waymo(folder, capture(3), per_shard=2)


def _waymo_unpacked(folder: Path) -> None:
    _waymo(folder)
    _scene("waymo")(folder)


# --- numbers and pictures ---------------------------------------------------------------------------------------------


def _ply(folder: Path) -> None:
    _points(folder / "points.ply")
    (folder / "text.ply").write_text(
        "ply\nformat ascii 1.0\ncomment a\nelement vertex 2\nproperty float x\nproperty double y\nproperty float z\n"
        "property float red\nproperty float green\nproperty float blue\nelement face 1\n"
        "property list uchar int vertex_indices\nend_header\n1 2 3 .1 .2 .3\n4 5 6 0 1 1\n3 0 1 2\n"
    )


def _read_ply(folder: Path) -> Any:
    from blocknerf.core.ply import read_points

    text = read_points(folder / "text.ply")
    return [np.nan_to_num(places) for places in (*text, *read_points(folder / "points.ply"))]


def _arrays(folder: Path) -> None:
    np.save(folder / "depth.npy", np.ones((6, 8), np.float32))
    np.save(folder / "rays.npy", np.tile(np.array([0, 0, 1, 0, 0, 0], np.float32), (6, 8, 1)))
    writers.save_png(folder / "depth.png", np.full((6, 8), 3000, np.uint16))


def _read_arrays(folder: Path) -> Any:
    from blocknerf.scene.depth import DEPTH_ERRORS, read_depth_z_m
    from blocknerf.scene.ray_tables import has_origins, reduced_rays

    depths = []
    for name in ("depth.npy", "depth.png"):
        try:
            depths.append(read_depth_z_m(folder / name, (8, 6)))
        except DEPTH_ERRORS:
            depths.append(None)
    return depths, has_origins(folder / "rays.npy"), reduced_rays(folder / "rays.npy", 8, 6, 2)


def _pictures(folder: Path) -> None:
    rgb = np.random.default_rng(0).integers(0, 255, (6, 8, 3), np.uint8)
    writers.save_png(folder / "photo.png", rgb)
    writers.save_png(folder / "mask.png", rgb[..., 0])
    writers.save_png(folder / "clear.png", np.concatenate([rgb, rgb[..., :1]], axis=2))
    writers.save_png(folder / "deep.png", rgb[..., 0].astype(np.uint16) * 257)
    from PIL import Image

    exif = Image.Exif()
    exif[0x8769] = {0x829A: (1, 60), 0x8827: 200, 0x829D: (28, 10)}
    Image.fromarray(rgb).save(folder / "photo.jpg", exif=exif)


def _read_pictures(folder: Path) -> Any:

    from blocknerf.scene.photographs import DECODE_ERRORS, exposure_of, opened_picture, read_mask, read_rgb

    read = []
    for path in sorted(folder.iterdir()):
        try:
            with opened_picture(path) as image:
                read.append(exposure_of(image))
                small = image.width * image.height < 1 << 20
            if small:
                read.append(np.asarray(read_rgb(path)))
                read.append(read_mask(path))
        except DECODE_ERRORS:
            read.append(None)
    return read


# --- files of ours ----------------------------------------------------------------------------------------------------


def _plan_of(folder: Path):
    from blocknerf.blocks.plan import BlockSpec, Layout, Plan, write_plan
    from blocknerf.scene.scene import GeoOrigin

    axes = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    layout = Layout((0.0, 0.0, 0.0), axes, "square", 5.0, 6.0)
    blocks = tuple(
        BlockSpec(
            f"00{n}",
            (10.0 * n, 0.0, 1.0),
            8.0,
            (10.0 * n, 0.0, 1.0),
            ("a", "b"),
            ("c",),
            (f"00{1 - n}",),
            ((10.0 * n, 0.0),),
        )
        for n in (0, 1)
    )
    plan = Plan("a" * 16, "b" * 16, blocks, (("002", "001", 3),), layout, ("c",), ("d",), GeoOrigin(50.0, 8.0, 100.0))
    write_plan(folder / "plan.json", plan)
    return plan


def _read_plan(folder: Path) -> Any:
    from blocknerf.blocks.plan import read_plan

    return read_plan(folder / "plan.json")


def _small_config():
    from blocknerf.core.config.load import load_config

    small = ("num_levels=3", "log2_table_rows=8", "finest_resolution=16")
    return load_config(
        None,
        [
            *(f"block_nerf.hash_grid.{key}" for key in small),
            "block_nerf.proposal_resolution=8",
            "block_nerf.hidden_dim=8",
            "training.use_visibility_network=false",
        ],
    )


def _city(folder: Path) -> None:
    from blocknerf.blocks.budget_file import StoredBudget, write_budget
    from blocknerf.blocks.output import _write_origin
    from blocknerf.city.alignment.file import Alignment, BlockShifts, write_alignment
    from blocknerf.city.manifest import manifest_of, write_manifest
    from blocknerf.core.config.config import Config

    write_manifest(folder, manifest_of(_plan_of(folder), Config().block_manager))
    write_alignment(folder, Alignment({"000": BlockShifts("f" * 64, {"0": (0.5, 1.0)})}))
    write_budget(folder, StoredBudget(30.0, 20_000.0, 2, ("training.max_minutes",)))
    (folder / "scene").mkdir()
    _write_origin(folder, "a" * 16, Config(), folder / "scene")


def _read_city(folder: Path) -> Any:
    from blocknerf.blocks.budget_file import read_budget
    from blocknerf.blocks.output import check_output, load_output
    from blocknerf.city.alignment.file import read_alignment
    from blocknerf.city.manifest import read_manifest
    from blocknerf.core.config.config import Config

    config, plan = load_output(folder)
    check_output(folder, "a" * 16, Config())
    return config.model_dump(), plan, read_manifest(folder), read_alignment(folder), read_budget(folder)


def _block(folder: Path) -> None:
    from blocknerf.core.types import Exposures
    from blocknerf.models.block_file import BlockFile, write_block
    from blocknerf.models.block_meta import BlockMeta
    from blocknerf.models.block_nerf import BlockNeRF

    exposures = Exposures(250.0, (-1.0, 1.0), {"0": 0.5}, {"a": 0.5})
    model = BlockNeRF(_small_config(), (0.0, 0.0, 1.0), 8.0, ("a", "b"), ("0", "1"), torch.Generator(), exposures)
    meta = BlockMeta(
        block_id="000",
        scene_hash="a" * 16,
        step=3,
        spent_s=1.5,
        best_psnr=20.0,
        image_ids=("a", "b"),
        drives=("0", "1"),
        model=model.description(),
        finished=False,
    )
    write_block(folder, "latest", BlockFile(meta, model.state_dict()))
    (next(folder.glob("latest-*.safetensors"))).rename(folder / "latest-weights.safetensors")
    held = json.loads((folder / "latest.json").read_text())
    held.pop("checksum")
    held["weights"]["file"] = "latest-weights.safetensors"
    from blocknerf.core.stored import write_stored

    write_stored(folder / "latest.json", held)


def _read_block(folder: Path) -> Any:
    from blocknerf.models.block_file import read_block
    from blocknerf.models.block_nerf import load_block

    model = load_block(read_block(folder, "latest"))
    return [tensor.detach() for tensor in model.state_dict().values()]  # type: ignore[attr-defined]


class _Parts:
    """A module, and the figures of a training, as a checkpoint holds them."""

    def __init__(self, folder: Path) -> None:
        from blocknerf.training.block.checkpoint import CheckpointProvenance, ModelCheckpoint, ModuleState
        from blocknerf.training.block.metrics import TrainingMetrics

        self.config = _small_config()
        self.module = torch.nn.Linear(2, 2)
        self.metrics = TrainingMetrics(self.config, folder, None)
        origin = CheckpointProvenance("000", ("a" * 16,), self.config, ("a", "b"))
        parts = {"model": ModuleState(self.module), "metrics": self.metrics}
        self.checkpoint = ModelCheckpoint(folder, folder, origin, self.module, parts, self.describe)

    def describe(self) -> Any:
        from blocknerf.models.block_meta import BlockMeta, ModelMeta

        images, drives = ("a", "b"), ("0", "1")
        model = ModelMeta(
            config=self.config,
            center_world=(0, 0, 1),
            radius_m=8.0,
            image_ids=images,
            drives=drives,
            exposures=None,
        )
        return BlockMeta(block_id="000", scene_hash="a" * 16, step=3, image_ids=images, drives=drives, model=model)


def _checkpoint(folder: Path) -> None:
    from blocknerf.models.block_file import BlockFile, write_block

    parts = _Parts(folder)
    parts.metrics.start(0)
    parts.metrics.log({"loss/rgb": 0.5, "train/psnr": 10.0}, 1)
    parts.metrics.validated({"psnr": 11.0}, 2)
    write_block(folder, "checkpoint", BlockFile(parts.describe(), {}))
    parts.checkpoint.save()
    parts.metrics.close()
    for path in folder.glob("latest*"):
        path.unlink()


def _read_checkpoint(folder: Path) -> Any:
    parts = _Parts(folder)
    parts.checkpoint.resume()
    parts.metrics.start(3)
    parts.metrics.close()
    return list(parts.module.state_dict().values()), parts.metrics.best


def _configuration(folder: Path) -> None:
    (folder / "c.yaml").write_text(
        "# a street\ntraining: &t {max_minutes: 5, nerf_lr: 5e-4}\nblock_manager:\n  block_size: 50\n"
        "  blending: distance\ndataset: {image_downsample: 2, scene_bounds: [0, 0, 0, 1, 1, 1]}\n"
        "block_nerf:\n  near_m: 0.1\n  perturb_samples: true\n"
    )
    (folder / "c.json").write_text(json.dumps({"training": {"max_minutes": 5.0}, "block_manager": {"block_size": 50}}))


def _read_configuration(folder: Path) -> Any:
    from blocknerf.core.config.load import load_config

    first = load_config(folder / "c.yaml")
    text = (folder / "c.yaml").read_text(encoding="utf-8", errors="replace").split("\n")
    override = next((line for line in reversed(text) if ":" in line), "")
    second = load_config(folder / "c.json", [override.strip().replace(": ", "=", 1)] if len(override) % 5 == 0 else [])
    return first.model_dump(), second.model_dump()


def _paths(folder: Path) -> None:
    pose = [[1.0, 0, 0, 1], [0, 1, 0, 2], [0, 0, 1, 3]]
    blocknerf_path = {
        "width": 64,
        "height": 36,
        "fov_deg": 60.0,
        "fps": 24,
        "frames": [{"world_from_cam": pose, "drive": "0"}] * 2,
    }
    flat = [*(number for row in pose for number in row), 0, 0, 0, 1]
    nerfstudio_path = {
        "render_width": 64,
        "render_height": 36,
        "fps": 24,
        "camera_type": "perspective",
        "seconds": 1,
        "camera_path": [{"camera_to_world": flat, "fov": 50, "aspect": 1.7}] * 2,
    }
    moved = {"transform": np.eye(4)[:3].tolist(), "scale": 0.5}
    for name, tree in (("own", blocknerf_path), ("theirs", nerfstudio_path), ("dataparser_transforms", moved)):
        (folder / f"{name}.json").write_text(json.dumps(tree))


def _read_paths(folder: Path) -> Any:
    from blocknerf.export.paths import camera_path_fps, read_camera_path

    def one(name: str) -> Any:
        return read_camera_path(folder / name), camera_path_fps(folder / name)

    return one("own.json"), one("theirs.json")


def _splats():
    from blocknerf.export.splats import Splats

    rng = np.random.default_rng(0)
    rows = [rng.normal(size=(4, width)).astype(np.float32) for width in (3, 3, 4, 1, 12)]
    return Splats(rows[0], rows[1], rows[2], rows[3][:, 0], rows[4].reshape(4, 4, 3))


def _merge(folder: Path) -> None:
    from blocknerf.export.splats_file import write_splats

    _plan_of(folder)
    write_splats(folder / "000" / "000.ply", _splats())
    write_splats(folder / "001.spz", _splats())
    tree = {"transform": np.eye(4)[:3].tolist(), "scale": 0.5}
    (folder / "000" / "dataparser_transforms.json").write_text(json.dumps(tree))


def _read_merge(folder: Path) -> Any:
    from blocknerf.export.merge import find_plan, find_splats, merge_splats

    plan = find_plan([str(folder)], None)
    return merge_splats(find_splats([str(folder)], plan), plan).splats


def _marks(folder: Path) -> None:
    """What prepare, masks and copies of URLs note for themselves."""
    from blocknerf.prepare.stages import Stages

    Stages(folder).run("images", [1], lambda resumed: {"a": [1, 2.5, "x"]})
    (folder / "nerfbaselines.json").write_text(
        json.dumps({"version": 1, "step": 3, "num_iterations": 9, "image_ids": ["a", None], "drives": ["0", None]})
    )
    (folder / ".shared.json").write_text(json.dumps({"a.json": "f" * 64}))


def _read_marks(folder: Path) -> Any:
    from blocknerf.core.shared_folder import SharedFolder
    from blocknerf.integrations.nerfbaselines import _read_about
    from blocknerf.prepare.stages import Stages

    stage = Stages(folder).run("images", [1], lambda resumed: {"a": [1, 2.5, "x"]})
    return stage, SharedFolder(folder, "memory://x")._read_index(), _read_about(folder)


def _store(folder: Path) -> None:
    _transforms(folder)
    _read_store(folder)


def _read_store(folder: Path) -> Any:
    from blocknerf.scene.store import ImageStore

    scene = _scene("nerfstudio", depth=True)(folder)
    store = ImageStore.open(scene, 1, folder / "store", progress=False, threads=1)
    return store.skipped, store.image_ids, store.level(0).directions, store.level(0).depth_z_m


def _empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def _mega_nerf(folder: Path) -> None:
    writers.write_mega_nerf(folder, capture())


_CAPTURE_PICTURES = {"images/*": m.PICTURE, "masks*": m.PICTURE}

TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Target("colmap_text", _colmap("txt"), {"*.txt": m.TEXT}, _scene("colmap")),
        Target("colmap_binary", _colmap("bin"), {"*.bin": m.BINARY}, _scene("colmap")),
        Target("sidecar", _colmap("txt", True), {"*.json": m.JSON}, _scene("colmap")),
        Target("photographs", _colmap("txt", True), {"images/*": m.PICTURE, "masks*": m.PICTURE}, _scene("colmap")),
        Target(
            "transforms",
            _transforms,
            {"*.json": m.JSON, "*.ply": m.BINARY},
            _scene("nerfstudio", depth=True),
        ),
        Target("blender", _blender, {"*.json": m.JSON}, _scene("auto")),
        Target("llff", lambda f: writers.write_llff(f, capture()), {"*.npy": m.NPY}, _scene("llff")),
        Target("bundler", _bundler, {"*.out": m.TEXT, "*.txt": m.TEXT}, _scene("bundler")),
        Target("kitti", _kitti, {"*.txt": m.TEXT}, _scene("kitti")),
        Target("nuscenes", _nuscenes, {"*.json": m.JSON}, _scene("nuscenes")),
        Target("waymo", _waymo, {"*.tfrecord*": m.RECORDS}, _scene("waymo"), ("unpacked",)),
        Target("waymo_index", _waymo_unpacked, {"unpacked/*/index.json": m.JSON}, _scene("waymo")),
        Target("mega_nerf", _mega_nerf, {"*.pt": m.BINARY, "mappings.txt": m.TEXT}, _scene("mega_nerf")),
        Target("ply", _ply, {"points.ply": m.BINARY, "text.ply": m.TEXT}, _read_ply),
        Target("arrays", _arrays, {"*.npy": m.NPY, "*.png": m.PICTURE}, _read_arrays),
        Target("pictures", _pictures, {"*": m.PICTURE}, _read_pictures),
        Target("configuration", _configuration, {"*.yaml": m.TEXT, "*.json": m.JSON}, _read_configuration),
        Target("plan", _plan_of, {"plan.json": m.STORED}, _read_plan),
        Target("city", _city, {"*.json": m.STORED}, _read_city),
        Target(
            "block",
            _block,
            {"latest.json": m.STORED, "*.safetensors": m.BINARY},
            _read_block,
            pairs=m.pair("latest-weights.safetensors"),
        ),
        Target(
            "checkpoint",
            _checkpoint,
            {"*.json": m.STORED, "*.safetensors": m.BINARY, "*.jsonl": m.TEXT},
            _read_checkpoint,
        ),
        Target("camera_paths", _paths, {"*.json": m.JSON}, _read_paths),
        Target(
            "merge",
            _merge,
            {"*.ply": m.BINARY, "*.spz": m.GZIP, "*transforms.json": m.JSON, "plan.json": m.STORED},
            _read_merge,
        ),
        Target("marks", _marks, {"*.json": m.STORED}, _read_marks),
        Target("store", _store, {"store/manifest.json": m.JSON, "store/level_*": m.BINARY}, _read_store),
    )
}


def available() -> dict[str, Target]:
    """Those whose format has a reader."""
    from blocknerf.scene.readers.read import READERS

    types = {reader.type for reader in READERS}
    return {name: target for name, target in TARGETS.items() if name != "blender" or "blender" in types}


class Arena:
    """A folder with a target's valid files, in which one mutation after the other is read."""

    def __init__(self, target: Target, folder: Path) -> None:
        self.target, self.folder = target, folder
        _empty(folder)
        target.make(folder)
        self.seeds = {
            path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
        }

    def try_one(self, rng: Random) -> tuple[Files, str | None]:
        """What was changed, and what went wrong with it."""
        changed = mutated(self.target, rng, self.seeds)
        return changed, self.try_files(changed)

    def try_files(self, changed: Files) -> str | None:
        """None where they are read right; raises what the reader should not have raised."""
        for name, content in changed.items():
            (self.folder / name).write_bytes(content)
        try:
            return failure_of(self.target.read, self.folder)
        finally:
            self._restore(changed)

    def _restore(self, changed: Files) -> None:
        for pattern in self.target.forget:
            for path in self.folder.glob(pattern):
                shutil.rmtree(path, ignore_errors=True)
        for name in changed:
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.seeds[name])
        if self.target.name in _WRITERS:  # what they read, they may write anew
            for name, content in self.seeds.items():
                path = self.folder / name
                if not path.is_file() or path.read_bytes() != content:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(content)


_WRITERS = ("waymo_index", "marks", "store", "checkpoint")
