"""Every format, written by an independent writer: the rays that come back, masks, exposure, drives, the split."""

import json
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image

from blocknerf.core.config.dataset import DatasetConfig
from blocknerf.core.errors import UserError
from blocknerf.scene.readers.read import READERS, read_scene
from blocknerf.scene.scene import ImageRecord, Scene
from blocknerf.scene.store import ImageStore
from tests.support.writers import (
    FORMATS,
    Capture,
    Shot,
    write_kitti,
    write_llff,
    write_mega_nerf,
    write_nuscenes,
    write_sidecar,
)

CONFIG = DatasetConfig()
TESTS = (1, 4)


@pytest.fixture(scope="module")
def capture() -> Capture:
    """Cameras with nothing in common: no axis of a frame lies along one of another."""
    rng = np.random.default_rng(0)
    shots = []
    for number in range(6):
        right, down, forward = np.linalg.qr(rng.normal(size=(3, 3)))[0].T
        forward = forward * np.sign(np.cross(right, down) @ forward)
        shots.append(
            Shot(
                name=f"street/{number:03d}.png" if number < 3 else f"yard/{number:03d}.png",
                rgb=rng.integers(0, 256, (9, 12, 3), np.uint8),
                right=right,
                down=down,
                forward=forward,
                center=rng.uniform(-20, 20, 3),
                moving=rng.random((9, 12)) < 0.3,
                exposure=0.5 + number,
                is_test=number in TESTS,
            )
        )
    return Capture(12, 9, 11.5, shots)


def flat(capture: Capture) -> Capture:
    """Without folders in names, for formats whose photographs lie in one."""
    shots = [Shot(**{**shot.__dict__, "name": shot.name.replace("/", "_")}) for shot in capture.shots]
    return Capture(capture.width, capture.height, capture.focal_px, shots)


def written(name: str, root: Path, capture: Capture) -> tuple[list[str], Capture]:
    capture = flat(capture) if name == "llff" else capture
    return FORMATS[name].write(root, capture), capture


def opened(scene: Scene, tmp_path: Path, downsample: int = 1) -> ImageStore:
    return ImageStore.open(scene, downsample, tmp_path / "store", progress=False)


def by_name(scene: Scene) -> dict[str, ImageRecord]:
    return {image.name: image for image in scene.images}


def test_the_configuration_and_the_readers_name_the_same_types():
    types = get_args(DatasetConfig.model_fields["type"].annotation)
    assert types == ("auto", *(reader.type for reader in READERS))
    assert set(FORMATS) <= set(types)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("chosen", ["auto", "named"])
def test_rays_are_those_that_were_written(name: str, chosen: str, tmp_path: Path, capture: Capture):
    names, capture = written(name, tmp_path / "scene", capture)
    scene = read_scene(tmp_path / "scene", DatasetConfig(type=name if chosen == "named" else "auto"))
    store, images = opened(scene, tmp_path), by_name(scene)
    assert set(images) == set(names)
    assert scene.skipped == ()
    for shot, its_name in zip(capture.shots, names, strict=True):
        rays = store.rays(images[its_name].id)
        origins, directions = (torch.from_numpy(np.array(array)).reshape(-1, 3) for array in capture.true_rays(shot))
        assert (rays.directions - directions).abs().max() < 1e-5
        assert (rays.origins - origins).abs().max() < 1e-5
        assert np.array_equal(store.rgb(images[its_name].id), shot.rgb)


@pytest.mark.parametrize("name", FORMATS)
def test_the_sidecar_tells_what_the_format_cannot(name: str, tmp_path: Path, capture: Capture):
    names, capture = written(name, tmp_path / "scene", capture)
    write_sidecar(tmp_path / "scene", capture, names)
    scene = read_scene(tmp_path / "scene", CONFIG)
    store, images = opened(scene, tmp_path), by_name(scene)
    assert scene.test_names == {names[number] for number in TESTS}
    for shot, its_name in zip(capture.shots, names, strict=True):
        assert images[its_name].exposure == shot.exposure
        assert images[its_name].drive == "0"
        assert np.array_equal(store.valid(images[its_name].id), ~shot.moving)


@pytest.mark.parametrize("name", [name for name in FORMATS if "split" in FORMATS[name].says])
def test_formats_with_a_split_bring_their_own(name: str, tmp_path: Path, capture: Capture):
    names, capture = written(name, tmp_path, capture)
    assert read_scene(tmp_path, CONFIG).test_names == {names[number] for number in TESTS}


# --- Mega-NeRF -------------------------------------------------------------------------------------------------------


def test_mega_nerf_positions_are_metres_from_its_origin(tmp_path: Path, capture: Capture):
    write_mega_nerf(tmp_path, capture, scale_m=7.25, origin=(100.0, -3.0, 8.0))
    images = by_name(read_scene(tmp_path, CONFIG))
    for shot in capture.shots:
        assert np.allclose(images[shot.name].world_from_cam[:, 3], shot.center - (100, -3, 8), atol=1e-5)


def test_mega_nerf_names_drives_by_the_original_folders(tmp_path: Path, capture: Capture):
    write_mega_nerf(tmp_path, capture)
    assert {name: image.drive for name, image in by_name(read_scene(tmp_path, CONFIG)).items()} == {
        shot.name: shot.name.split("/")[0] for shot in capture.shots
    }
    (tmp_path / "mappings.txt").unlink()
    assert set(by_name(read_scene(tmp_path, CONFIG))) == {f"{number:06d}.png" for number in range(6)}


class RunsACommand:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self):
        import os

        return os.system, (self.command,)


def change_fields(path: Path, **changes) -> None:
    fields = torch.load(path, weights_only=True) | changes
    torch.save({key: value for key, value in fields.items() if value is not None}, path)


@pytest.mark.parametrize("new_format", [True, False])
@pytest.mark.parametrize("file", ["coordinates.pt", "train/metadata/000002.pt"])
def test_a_pt_file_with_code_in_it_is_refused_and_not_run(tmp_path: Path, capture: Capture, file: str, new_format):
    write_mega_nerf(tmp_path, capture)
    proof = tmp_path / "it_ran"
    content = {"H": RunsACommand(f"touch {proof}"), "pose_scale_factor": 1.0}
    torch.save(content, tmp_path / file, _use_new_zipfile_serialization=new_format)
    with pytest.raises(UserError, match="is refused: it asks for more than tensors") as caught:
        read_scene(tmp_path, CONFIG)
    assert str(tmp_path / file) in str(caught.value)
    assert not proof.exists()
    torch.load(tmp_path / file, weights_only=False)  # what would have happened
    assert proof.exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"c2w": None}, "000000.pt has no field 'c2w'. It has: H, W, intrinsics"),
        ({"c2w": torch.eye(3)}, r"000000.pt: 'c2w' must have the shape \(3, 4\), not \(3, 3\)"),
        ({"intrinsics": "wide"}, "000000.pt: 'intrinsics' must hold numbers, not str"),
        ({"W": [1, 2]}, r"000000.pt: 'W' must have the shape \(\), not \(2,\)"),
    ],
)
def test_a_field_that_is_missing_or_of_another_kind_is_named(tmp_path: Path, capture: Capture, changes, message):
    write_mega_nerf(tmp_path, capture)
    change_fields(tmp_path / "train/metadata/000000.pt", **changes)
    with pytest.raises(UserError, match=message):
        read_scene(tmp_path, CONFIG)


def test_damaged_mega_nerf_files_are_sentences(tmp_path: Path, capture: Capture):
    write_mega_nerf(tmp_path, capture)
    good = (tmp_path / "coordinates.pt").read_bytes()
    (tmp_path / "coordinates.pt").write_bytes(good[: len(good) // 2])
    with pytest.raises(UserError, match="coordinates.pt is damaged"):
        read_scene(tmp_path, CONFIG)
    torch.save([1.0], tmp_path / "coordinates.pt")
    with pytest.raises(UserError, match="holds a list, not named fields"):
        read_scene(tmp_path, CONFIG)
    torch.save({"pose_scale_factor": 0.0}, tmp_path / "coordinates.pt")
    with pytest.raises(UserError, match="'pose_scale_factor' must be more than 0"):
        read_scene(tmp_path, CONFIG)
    (tmp_path / "coordinates.pt").write_bytes(good)
    (tmp_path / "mappings.txt").write_text("000000.pt\n")
    with pytest.raises(UserError, match="line 1: a line is 'photograph,metadata.pt'"):
        read_scene(tmp_path, CONFIG)
    (tmp_path / "mappings.txt").unlink()
    (tmp_path / "train/rgbs/000000.png").unlink()
    (tmp_path / "train/metadata/000002.pt").unlink()
    scene = read_scene(tmp_path, CONFIG)
    assert [name for name, _ in scene.skipped] == ["000000.jpg"]
    assert len(scene.images) == 4
    for path in (tmp_path / "train/metadata").iterdir():
        path.unlink()
    with pytest.raises(UserError, match="metadata holds no .pt file"):
        read_scene(tmp_path, CONFIG)


# --- KITTI -----------------------------------------------------------------------------------------------------------


def test_kitti_poses_of_the_benchmarks_own_folders(tmp_path: Path, capture: Capture):
    sequence = tmp_path / "sequences" / "07"
    write_kitti(sequence, capture)
    (tmp_path / "poses").mkdir()
    (sequence / "poses.txt").rename(tmp_path / "poses" / "07.txt")
    centers = read_scene(sequence, CONFIG).centers_world
    assert np.allclose(centers, [shot.center for shot in capture.shots], atol=1e-9)
    (tmp_path / "poses" / "07.txt").unlink()
    with pytest.raises(UserError, match="There is no .*poses.txt, nor .*07.txt. Sequences"):
        read_scene(sequence, CONFIG)


def test_kitti_gray_cameras_serve_where_there_are_no_colours(tmp_path: Path, capture: Capture):
    write_kitti(tmp_path, capture, beside_m=(0.0, 0.0, 0.0))
    (tmp_path / "image_0").mkdir()
    for path in (tmp_path / "image_2").iterdir():
        (tmp_path / "image_0" / path.name).write_bytes(path.read_bytes())
    assert {image.name.split("/")[0] for image in read_scene(tmp_path, CONFIG).images} == {"image_2"}
    (tmp_path / "image_2").rename(tmp_path / "elsewhere")
    scene = read_scene(tmp_path, CONFIG)
    assert {image.name.split("/")[0] for image in scene.images} == {"image_0"}
    assert np.allclose(scene.centers_world, [shot.center for shot in capture.shots], atol=1e-9)


def first_lines(path: Path, count: int) -> None:
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:count]))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda root: first_lines(root / "poses.txt", 5), r"times.txt has 6 entries, but .*poses.txt has 5 poses"),
        (lambda root: (root / "image_2/000003.png").unlink(), r"image_2 has 5 entries, but .*poses.txt has 6 poses"),
        (lambda root: first_lines(root / "calib.txt", 2), "calib.txt has no P2, the camera of image_2"),
        (lambda root: (root / "poses.txt").write_text("1 2 3\n"), "poses.txt, line 1: a line has 12 numbers.* 3"),
        (lambda root: (root / "calib.txt").write_text("P0: a b\n"), "calib.txt, line 1: it has something"),
        (lambda root: (root / "calib.txt").write_text(("P: " + "0 " * 12 + "\n") * 4), "must be K "),
        (lambda root: (root / "calib.txt").write_bytes(b"\xff\xfe\xff"), "cannot be read as text"),
    ],
)
def test_kitti_lengths_that_disagree_and_lines_that_are_none(tmp_path: Path, capture: Capture, damage, message: str):
    write_kitti(tmp_path, capture)
    damage(tmp_path)
    with pytest.raises(UserError, match=message):
        read_scene(tmp_path, CONFIG)


def test_kitti_without_photographs(tmp_path: Path, capture: Capture):
    write_kitti(tmp_path, capture)
    for path in (tmp_path / "image_2").iterdir():
        path.unlink()
    with pytest.raises(UserError, match="image_2 holds no photographs"):
        read_scene(tmp_path, CONFIG)


# --- nuScenes --------------------------------------------------------------------------------------------------------


def change_table(root: Path, table: str, change) -> None:
    path = root / "v1.0-mini" / f"{table}.json"
    rows = json.loads(path.read_text())
    path.write_text(json.dumps(change(rows) or rows))


def test_a_scene_of_nuscenes_is_a_drive(tmp_path: Path, capture: Capture):
    write_nuscenes(tmp_path, capture)
    scene = read_scene(tmp_path, CONFIG)
    assert {image.drive for image in scene.images} == {"scene-0061"}
    assert len(scene.cameras) == 1
    change_table(tmp_path, "ego_pose", lambda rows: rows[0].update(rotation=[2, 0, 0, 0]))
    assert "is not a rotation" in read_scene(tmp_path, CONFIG).skipped[0][1]


@pytest.mark.parametrize(
    ("table", "change", "message"),
    [
        ("ego_pose", lambda rows: rows[1:], "ego_pose.json has no row 'e0', which 'd0' asks for"),
        ("ego_pose", lambda rows: rows[0].pop("rotation") and None, "row 'e0' of ego_pose has no 'rotation'"),
        (
            "ego_pose",
            lambda rows: rows[0].update(translation=[1, 2]),
            r"'translation' has the shape \(2,\), not \(3,\)",
        ),
        (
            "calibrated_sensor",
            lambda rows: rows[0].update(rotation="x"),
            "'rotation' holds something that is not a number",
        ),
        ("sample_data", lambda rows: rows[2].pop("filename") and None, "'d1' of sample_data has no 'filename'"),
        ("sample", lambda rows: [{"key": 3}], "sample.json is not a table of nuScenes"),
    ],
)
def test_tables_of_nuscenes_that_do_not_fit(tmp_path: Path, capture: Capture, table: str, change, message: str):
    write_nuscenes(tmp_path, capture)
    change_table(tmp_path, table, change)
    with pytest.raises(UserError, match=message):
        read_scene(tmp_path, CONFIG)


def test_missing_tables_and_tables_of_two_versions(tmp_path: Path, capture: Capture):
    write_nuscenes(tmp_path, capture)
    (tmp_path / "v1.0-trainval").mkdir()
    (tmp_path / "v1.0-trainval/sample_data.json").write_text("[]")
    with pytest.raises(UserError, match=r"of several versions \(v1.0-mini, v1.0-trainval\)"):
        read_scene(tmp_path, CONFIG)
    (tmp_path / "v1.0-trainval/sample_data.json").unlink()
    (tmp_path / "v1.0-mini/scene.json").unlink()
    with pytest.raises(UserError, match="There is no table of nuScenes at .*scene"):
        read_scene(tmp_path, CONFIG)


# --- LLFF ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.zeros((6, 15)), r"\(images, 17\), not float64 of \(6, 15\)"),
        (np.zeros(17), r"not float64 of \(17,\)"),
        (np.full((6, 17), "x"), "must hold numbers"),
        (np.zeros((4, 17)), "has 4 rows, but .*images holds 6 photographs"),
        (np.array([[{}]], dtype=object), "holds Python objects, which are not read"),
    ],
)
def test_llff_rows_that_are_none(tmp_path: Path, capture: Capture, rows: np.ndarray, message: str):
    write_llff(tmp_path, flat(capture))
    np.save(tmp_path / "poses_bounds.npy", rows, allow_pickle=True)
    with pytest.raises(UserError, match=message):
        read_scene(tmp_path, CONFIG)


def test_llff_with_smaller_copies_alone(tmp_path: Path, capture: Capture, caplog: pytest.LogCaptureFixture):
    """Size and focal length of the row, brought to the picture's size; hidden files and masks are no photographs."""
    write_llff(tmp_path, flat(capture))
    (tmp_path / "images").rename(tmp_path / "images_3")
    for path in list((tmp_path / "images_3").iterdir()):
        Image.new("RGB", (4, 3)).save(path)
        path.with_name(f"._{path.name}").write_bytes(b"AppleDouble")
        Image.new("L", (4, 3)).save(path.with_name(f"dynamic_mask_{path.stem}.png"))
    scene = read_scene(tmp_path, CONFIG)
    assert all(len(image.mask_paths) == 1 for image in scene.images)
    (camera,) = scene.cameras.values()
    assert (camera.width, camera.height, camera.params[0]) == (4, 3, pytest.approx(11.5 / 3))
    assert "images holds no photographs; the 6 of images_3 are read" in caplog.text


def test_a_truncated_or_senseless_llff_file(tmp_path: Path, capture: Capture):
    write_llff(tmp_path, flat(capture))
    path = tmp_path / "poses_bounds.npy"
    rows = np.load(path)
    rows[1, 14] = np.nan
    np.save(path, rows)
    assert "not finite" in dict(read_scene(tmp_path, CONFIG).skipped)["street_001.png"]
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UserError, match="is damaged"):
        read_scene(tmp_path, CONFIG)
