"""Refined cameras out of a city and back in through the readers."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from blocknerf.blocks.output import load_output, open_scene, plan_scene
from blocknerf.city.city import City
from blocknerf.city.manifest import block_folder, manifest_of, write_manifest
from blocknerf.cli.export_cameras import export_cameras
from blocknerf.cli.main import main
from blocknerf.core.camera import Camera
from blocknerf.core.config.dataset import DatasetConfig
from blocknerf.core.config.load import load_config
from blocknerf.core.errors import UserError
from blocknerf.core.seeds import generator
from blocknerf.export.cameras import refined_poses, write_cameras
from blocknerf.geometry import se3
from blocknerf.models.block_file import BlockFile, write_block
from blocknerf.models.block_nerf import BlockNeRF
from blocknerf.scene.readers.read import read_scene
from blocknerf.scene.scene import Scene
from tests.support.block_meta import meta_of
from tests.support.room import write_room
from tests.support.small_field import SMALL_HASH

SMALL = (
    *SMALL_HASH,
    "block_manager.block_size=2",
    "block_manager.min_images_per_block=3",
)


@pytest.fixture(scope="module")
def room(tmp_path_factory) -> Path:
    return write_room(tmp_path_factory.mktemp("scene"))


def _city(room: Path, out: Path, refine: bool = True) -> tuple[Path, dict[str, BlockNeRF]]:
    """Blocks that have learned nothing but offsets of their drives."""
    config = load_config(None, [*SMALL, f"training.use_pose_refinement={str(refine).lower()}"])
    config, scene, plan = plan_scene(config, room, out)
    records = {image.id: image for image in scene.images}
    write_manifest(out, manifest_of(plan, config.block_manager))
    models = {}
    for number, block in enumerate(plan.blocks):
        drives = tuple(records[image_id].drive for image_id in block.train_images)
        model = BlockNeRF(config, block.center_world, block.radius_m, block.train_images, drives, generator(0, "m"))
        if model.poses is not None:
            centers = np.stack([records[image_id].world_from_cam[:, 3] for image_id in block.train_images])
            model.poses.place(torch.from_numpy(centers), block.radius_m)
            with torch.no_grad():
                model.poses.shares.normal_(0, 0.1, generator=generator(number, "shares"))
        meta = meta_of(block.id, model.description(), scene_hash=plan.scene_hash)
        write_block(block_folder(out, block.id), "latest", BlockFile(meta, model.state_dict()))
        models[block.id] = model
    assert len(models) >= 2
    return out, models


@pytest.fixture(scope="module")
def city(room, tmp_path_factory) -> tuple[Path, dict[str, BlockNeRF]]:
    return _city(room, tmp_path_factory.mktemp("out"))


def _scene(out: Path) -> Scene:
    config, _ = load_output(out)
    return open_scene(out, config.dataset)


def test_a_block_alone_speaks_for_itself(city):
    out, models = city
    scene, (block_id, model) = _scene(out), next(iter(models.items()))
    poses = refined_poses(City.open(out), scene, block_id)
    assert len(poses) == len(scene.images)  # test images as well: they belong to drives
    for image in scene.images:
        learned = model.refined_pose(torch.from_numpy(image.world_from_cam), image.id, image.drive).numpy()
        np.testing.assert_allclose(poses[image.id], learned, atol=1e-9)
        assert np.abs(learned - image.world_from_cam).max() > 1e-3


def test_a_state_to_resume_from_speaks_as_the_weights_in_it(city, tmp_path):
    out, models = city
    scene, (block_id, model) = _scene(out), next(iter(models.items()))
    shutil.copytree(out, tmp_path / "out")
    meta = meta_of(block_id, model.description(), scene_hash=City.open(out).manifest.scene_hash, parts=("model",))
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    write_block(block_folder(tmp_path / "out", block_id), "best", BlockFile(meta, tensors))
    latest = refined_poses(City.open(out), scene, block_id)
    best = refined_poses(City.open(tmp_path / "out", state="best"), scene, block_id)
    assert all(np.array_equal(best[name], pose) for name, pose in latest.items())


def test_merged_poses_lie_between_those_of_the_blocks_and_nearer_to_the_nearer(city):
    out, models = city
    scene, opened = _scene(out), City.open(out)
    merged = refined_poses(opened, scene)
    alone = {block_id: refined_poses(opened, scene, block_id) for block_id in models}
    for image in scene.images:
        centers = np.stack([poses[image.id][:, 3] for poses in alone.values()])
        low, high = centers.min(0) - 1e-3, centers.max(0) + 1e-3
        assert (merged[image.id][:, 3] > low).all()
        assert (merged[image.id][:, 3] < high).all()
        rotation = merged[image.id][:, :3]
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    nearest = [opened.nearest(torch.from_numpy(image.world_from_cam[:, 3].copy())) for image in scene.images]
    to_nearest, to_others = [], []
    for image, home in zip(scene.images, nearest, strict=True):
        gaps = {name: np.abs(merged[image.id] - poses[image.id]).max() for name, poses in alone.items()}
        to_nearest.append(gaps.pop(home))
        to_others.append(np.mean(list(gaps.values())))
    assert np.mean(to_nearest) < np.mean(to_others)


@pytest.mark.parametrize("kind", ["colmap", "transforms"])
def test_what_is_written_reads_back(city, room, tmp_path, kind):
    out, _ = city
    scene = _scene(out)
    poses = refined_poses(City.open(out), scene)
    copy = tmp_path / "copy"
    shutil.copytree(room / "images", copy / "images")
    moved = Scene(copy, scene.cameras, tuple(scene.images), scene.points_world, scene.points_rgb)
    write_cameras(copy, moved, poses, kind)
    again = read_scene(copy, DatasetConfig(type="colmap" if kind == "colmap" else "nerfstudio"))
    assert len(again.images) == len(poses)
    by_name = {Path(image.name).stem: poses[image.id] for image in scene.images}
    for image in again.images:
        np.testing.assert_allclose(image.world_from_cam, by_name[Path(image.name).stem], atol=1e-9)
    (camera,) = again.cameras.values()
    (captured,) = scene.cameras.values()
    assert (camera.model, camera.params) == (captured.model, captured.params)


@pytest.mark.parametrize(
    ("model", "params"),
    [
        ("SIMPLE_RADIAL", (20.0, 16.0, 12.0, 0.1)),
        ("OPENCV", (20.0, 21.0, 16.0, 12.0, 0.1, 0.2, 0.01, 0.02)),
        ("FULL_OPENCV", (20.0, 21.0, 16.0, 12.0, *(0.01 * n for n in range(8)))),
        ("OPENCV_FISHEYE", (20.0, 21.0, 16.0, 12.0, 0.1, 0.2, 0.01, 0.02)),
    ],
)
def test_lenses_survive_transforms_json(city, room, tmp_path, model, params):
    """The same directions at the same pixels, whatever the file calls the model."""
    from blocknerf.scene.rays import camera_directions

    out, _ = city
    scene = _scene(out)
    camera = Camera(model, 32, 24, params)
    lens = Scene(room, dict.fromkeys(scene.cameras, camera), scene.images, scene.points_world, scene.points_rgb)
    folder = tmp_path / "lens"
    write_cameras(folder, lens, refined_poses(City.open(out), scene), "transforms")
    again = read_scene(folder, DatasetConfig(type="nerfstudio"))
    (read,) = again.cameras.values()
    np.testing.assert_allclose(camera_directions(read, 32, 24), camera_directions(camera, 32, 24), atol=1e-6)


def test_a_lens_that_transforms_json_cannot_hold_is_named(city, tmp_path):
    out, _ = city
    scene = _scene(out)
    camera = Camera("FOV", 32, 24, (20.0, 20.0, 16.0, 12.0, 0.9))
    lens = Scene(scene.root, dict.fromkeys(scene.cameras, camera), scene.images, scene.points_world, scene.points_rgb)
    with pytest.raises(UserError, match="cannot hold the camera of .*a FOV.*--format colmap"):
        write_cameras(tmp_path, lens, refined_poses(City.open(out), scene), "transforms")


def test_the_command(city, capsys):
    out, _ = city
    main(["export", "cameras", str(out)])
    assert (out / "cameras" / "sparse" / "0" / "images.txt").is_file()
    export_cameras(out, format="transforms", folder=out / "elsewhere")
    assert (out / "elsewhere" / "transforms.json").is_file()
    with pytest.raises(UserError, match="no trained block '999'"):
        export_cameras(out, block="999")


@pytest.mark.parametrize(("kind", "name"), [("colmap", "sparse/0/images.bin"), ("transforms", "transforms.json")])
def test_a_model_of_somebody_else_stays(city, tmp_path, kind, name):
    out, _ = city
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_bytes(b"theirs")
    with pytest.raises(UserError, match=rf"{name} was not written by an export into .* another folder"):
        export_cameras(out, format=kind, folder=tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / name]
    assert (tmp_path / name).read_bytes() == b"theirs"
    for _ in range(2):  # its own is written anew
        export_cameras(out, format=kind, folder=tmp_path / "new")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "sparse").symlink_to(tmp_path / "sparse")
    with pytest.raises(UserError, match="leads out of"):
        export_cameras(out, folder=tmp_path / "linked")


def test_a_city_without_refinement_says_how_to_get_it(room, tmp_path):
    out, _ = _city(room, tmp_path / "out", refine=False)
    with pytest.raises(UserError, match="No block has refined a pose.*use_pose_refinement"):
        refined_poses(City.open(out), _scene(out))


def test_motions_of_far_blocks_are_averaged_at_the_camera():
    """Half-way between two motions of a camera is half-way, wherever the world's origin is."""
    from blocknerf.export.cameras import _merged, _RefinedPose
    from blocknerf.scene.scene import ImageRecord

    pose = torch.eye(3, 4).double()
    pose[:, 3] = 1000.0
    image = ImageRecord("a", "a", Path("a"), "0", pose.numpy())
    twist = torch.tensor([0.2, 0.0, -0.1, 0.0, 0.02, 0.0], dtype=torch.float64)
    motions = [se3.compose(se3.compose(pose, se3.exp(s * twist)), se3.inverse(pose)) for s in (1.0, 3.0)]
    anchors = [torch.tensor([1000.0, 1000.0, 1000.0 + shift]).double() for shift in (-5.0, 5.0)]
    merged = _merged(image, [_RefinedPose(*pair) for pair in zip(anchors, motions, strict=True)], power=4.0)
    np.testing.assert_allclose(merged, se3.compose(pose, se3.exp(2 * twist)).numpy(), atol=1e-9)
