"""COLMAP models: ours against pycolmap's reading of them, and what a damaged one says."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from blocknerf.core.config.dataset import DatasetConfig
from blocknerf.core.errors import UserError
from blocknerf.scene.colmap_module import pycolmap
from blocknerf.scene.photographs import exposure_of
from blocknerf.scene.readers.colmap_files import read_model
from blocknerf.scene.readers.read import read_scene
from blocknerf.scene.scene import Scene, scene_hash
from tests.support.scene_builders import colmap_capture, picture, poses

CONFIG = DatasetConfig()


def assert_same(scene: Scene, model: pycolmap.Reconstruction) -> None:
    """The scene holds the model's poses, points, colours and tracks."""
    assert len(scene.images) == model.num_reg_images()
    for record in scene.images:
        image = model.find_image_with_name(record.name)
        assert image is not None
        assert np.allclose(record.world_from_cam, image.cam_from_world().inverse().matrix(), atol=1e-9)
        ids = sorted(point.point3D_id for point in image.points2D if point.has_point3D())
        seen = np.array([model.points3D[i].xyz for i in ids])
        assert np.array_equal(scene.points_world[record.point_rows], seen)
        colours = np.array([model.points3D[i].color for i in ids])
        assert np.array_equal(scene.points_rgb[record.point_rows], colours)
        camera = scene.cameras[record.camera_key]
        assert np.allclose(camera.params, model.cameras[image.camera_id].params, atol=1e-9)
        assert camera.model == model.cameras[image.camera_id].model_name


@pytest.mark.parametrize("kind", ["bin", "txt"])
@pytest.mark.parametrize("place", ["sparse/0", "sparse", "colmap/sparse/0", "."])
def test_reads_what_pycolmap_wrote_wherever_it_lies(tmp_path: Path, kind: str, place: str):
    model = colmap_capture(tmp_path, kind=kind, names=["a/1.png", "b/x y.png", "c.png"])
    if place != "sparse/0":
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        for file in (tmp_path / "sparse/0").iterdir():
            shutil.move(file, tmp_path / place / file.name)
        (tmp_path / "sparse/0").rmdir()
    scene = read_scene(tmp_path, CONFIG)
    assert_same(scene, model)
    assert [image.name for image in scene.images] == ["a/1.png", "b/x y.png", "c.png"]
    assert [image.drive for image in scene.images] == ["a", "b", "0"]


@pytest.mark.parametrize("kind", ["bin", "txt"])
def test_models_of_three_files_are_read_alike(tmp_path: Path, kind: str):
    model = colmap_capture(tmp_path, kind=kind)
    with_rigs = scene_hash(read_scene(tmp_path, CONFIG))
    for part in ("rigs", "frames"):
        (tmp_path / "sparse/0" / f"{part}.{kind}").unlink()
    scene = read_scene(tmp_path, CONFIG)
    assert_same(scene, model)
    assert scene_hash(scene) == with_rigs


@pytest.mark.parametrize("model", ["PINHOLE", "OPENCV_FISHEYE", "FULL_OPENCV", "EQUIRECTANGULAR"])
def test_camera_models_keep_their_parameters(tmp_path: Path, model: str):
    written = colmap_capture(tmp_path, model=model)
    assert_same(read_scene(tmp_path, CONFIG), written)


def test_a_rig_of_two_cameras(tmp_path: Path):
    model, rig = pycolmap.Reconstruction(), pycolmap.Rig(rig_id=1)
    side = pycolmap.Rigid3d(pycolmap.Rotation3d(np.array([0.0, 0.6, 0.0])), np.array([0.3, 0.0, 0.1]))
    for camera_id in (1, 2):
        camera = pycolmap.Camera.create_from_model_name(camera_id, "PINHOLE", 50.0, 48, 36)
        model.add_camera(camera)
        rig.add_ref_sensor(camera.sensor_id) if camera_id == 1 else rig.add_sensor(camera.sensor_id, side)
    model.add_rig(rig)
    for frame_id, pose in enumerate(poses(2), 1):
        frame = pycolmap.Frame(frame_id=frame_id, rig_id=1)
        images = [pycolmap.Image(f"cam{c}/{frame_id}.png", camera_id=c, image_id=2 * frame_id + c) for c in (1, 2)]
        for image in images:
            image.frame_id = frame_id
            frame.add_data_id(image.data_id)
        frame.rig_from_world = pycolmap.Rigid3d(pycolmap.Rotation3d(pose[:, :3]), pose[:, 3]).inverse()
        model.add_frame(frame)
        for image in images:
            model.add_image(image)
            (tmp_path / "images" / image.name).parent.mkdir(parents=True, exist_ok=True)
            picture(48, 36).save(tmp_path / "images" / image.name)
        model.register_frame(frame_id)
    (tmp_path / "sparse/0").mkdir(parents=True)
    model.write_binary(tmp_path / "sparse/0")
    scene = read_scene(tmp_path, CONFIG)
    assert [image.drive for image in scene.images] == ["cam1", "cam1", "cam2", "cam2"]
    again = pycolmap.Reconstruction(tmp_path / "sparse/0")
    for record in scene.images:
        image = again.find_image_with_name(record.name)
        assert image is not None
        assert np.allclose(record.world_from_cam, image.cam_from_world().inverse().matrix())


def test_photographs_may_lie_beside_the_model(tmp_path: Path):
    colmap_capture(tmp_path)
    for photograph in (tmp_path / "images").iterdir():
        shutil.move(photograph, tmp_path / photograph.name)
    (tmp_path / "images").rmdir()
    assert len(read_scene(tmp_path, CONFIG).images) == 5


@pytest.mark.parametrize("part", ["cameras", "images", "points3D"])
def test_every_truncation_of_a_binary_file_is_a_sentence_that_names_it(tmp_path: Path, part: str):
    colmap_capture(tmp_path, num_points=3, names=["0.png", "1.png"])
    path = tmp_path / "sparse/0" / f"{part}.bin"
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(UserError) as caught:
            read_model(path.parent)
        assert str(path) in str(caught.value)
        assert "truncated" in str(caught.value)
        assert "Copy the file again" in str(caught.value)
    path.write_bytes(content + b"\0")
    with pytest.raises(UserError, match="damaged"):
        read_model(path.parent)


@pytest.mark.parametrize("kind", ["bin", "txt"])
def test_damaged_bytes_never_give_anything_but_a_scene_or_a_sentence(tmp_path: Path, kind: str):
    colmap_capture(tmp_path, num_points=3, names=["0.png", "1.png", "2.png"], kind=kind)
    generator = np.random.default_rng(0)
    refused = 0
    for part in ("cameras", "images", "points3D"):
        path = tmp_path / "sparse/0" / f"{part}.{kind}"
        content = path.read_bytes()
        for _ in range(120):
            damaged = bytearray(content)
            for place in generator.integers(0, len(content), 2):
                damaged[place] = int(generator.integers(0, 256))
            path.write_bytes(damaged)
            try:
                read_scene(tmp_path, CONFIG)
            except UserError:
                refused += 1
        path.write_bytes(content)
    assert refused > 10


def test_points_are_optional_but_cameras_and_images_are_not(tmp_path: Path):
    colmap_capture(tmp_path)
    (tmp_path / "sparse/0/points3D.bin").unlink()
    scene = read_scene(tmp_path, CONFIG)
    assert scene.points_world.shape == (0, 3)
    assert scene.points_rgb.shape == (0, 3)
    assert all(len(image.point_rows) == 0 for image in scene.images)
    (tmp_path / "sparse/0/images.bin").unlink()
    with pytest.raises(UserError, match="has no images.bin"):
        read_scene(tmp_path, CONFIG)


IMAGES = """# a comment
1 1 0 0 0 0 0 0 1 a.png
10.5 3.5 7 1 2 -1
2 1 0 0 0 1 0 0 1 b.png

3 {third} 1 c.png
4 1 0 0 0 2 0 0 {camera} d.png
"""


def text_model(root: Path, third: str = "1 0 0 0 0 0 1", camera: str = "1", cameras: str = "1 PINHOLE 8 6 9 9 4 3\n"):
    (root / "sparse/0").mkdir(parents=True)
    (root / "images").mkdir()
    (root / "sparse/0/cameras.txt").write_text(cameras)
    (root / "sparse/0/images.txt").write_text(IMAGES.format(third=third, camera=camera).replace("c.png\n", "c.png\n\n"))
    (root / "sparse/0/points3D.txt").write_text("7 1 2 3 255 0 9 0.5 1 0\n9 4 5 6 1 2 3 0.5\n")
    for name in "abcd":
        picture(8, 6).save(root / "images" / f"{name}.png")


def test_text_by_hand(tmp_path: Path):
    text_model(tmp_path)
    scene = read_scene(tmp_path, CONFIG)
    assert [image.name for image in scene.images] == ["a.png", "b.png", "c.png", "d.png"]
    assert scene.images[0].point_rows.tolist() == [0]
    assert np.array_equal(scene.images[1].world_from_cam[:, 3], [-1, 0, 0])
    assert scene.points_rgb[0].tolist() == [255, 0, 9]
    assert scene.points_error_px is not None
    assert scene.points_error_px.tolist() == [0.5, 0.5]


@pytest.mark.parametrize(
    ("third", "reason"),
    [
        ("nan 0 0 0 0 0 1", "not finite"),
        ("1 0 0 0 inf 0 1", "not finite"),
        ("0 0 0 0 0 0 1", "is not a rotation"),
        ("2 0 0 0 0 0 1", "is not a rotation"),
    ],
)
def test_images_with_a_bad_pose_are_listed_and_left_out(tmp_path: Path, third: str, reason: str):
    text_model(tmp_path, third=third)
    scene = read_scene(tmp_path, CONFIG)
    assert [image.name for image in scene.images] == ["a.png", "b.png", "d.png"]
    assert [name for name, _ in scene.skipped] == ["c.png"]
    assert reason in scene.skipped[0][1]


@pytest.mark.parametrize(
    ("camera", "reason"),
    [
        ("2 PINHOLE 8 6 -9 9 4 3", "focal length that is zero or negative"),
        ("2 PINHOLE 8 6 9 0 4 3", "focal length that is zero or negative"),
        ("2 PINHOLE 8 6 9 9 nan 3", "not finite"),
        ("2 PINHOLE 0 6 9 9 4 3", "0 x 6 pixels"),
        ("2 PINHOLE 16 6 9 9 4 3", "it is 8 x 6 pixels large, but its camera 16 x 6"),
        ("3 PINHOLE 8 6 9 9 4 3", "does not have the camera"),
        ("2 EQUIRECTANGULAR 8 6 7 6", "panorama are not the picture's width and height"),
    ],
)
def test_images_with_a_bad_camera_are_listed_and_left_out(tmp_path: Path, camera: str, reason: str):
    text_model(tmp_path, camera="2", cameras=f"1 PINHOLE 8 6 9 9 4 3\n{camera}\n")
    scene = read_scene(tmp_path, CONFIG)
    assert [name for name, _ in scene.skipped] == ["d.png"]
    assert reason in scene.skipped[0][1]


@pytest.mark.parametrize(
    ("cameras", "message"),
    [
        ("1 PINHOLE 8 6 9 9 4\n", "4 parameters, not 3"),
        ("1 EQUIRECTANGULAR 8 6\n", "2 parameters, not 0"),
        ("1 HOLGA 8 6 9 9 4 3\n", "unknown camera model 'HOLGA'"),
        ("1 PINHOLE eight 6 9 9 4 3\n", "line 1: .*eight"),
        ("1 PIN\n", "truncated"),
    ],
)
def test_bad_camera_lines_name_file_and_line(tmp_path: Path, cameras: str, message: str):
    text_model(tmp_path, cameras=cameras)
    with pytest.raises(UserError, match=message) as caught:
        read_scene(tmp_path, CONFIG)
    assert "cameras.txt, line 1" in str(caught.value)


def test_a_proportionally_resized_photograph_gets_a_rescaled_camera(tmp_path: Path):
    text_model(tmp_path)
    picture(16, 12).save(tmp_path / "images/b.png")
    scene = read_scene(tmp_path, CONFIG)
    by_name = {image.name: scene.cameras[image.camera_key] for image in scene.images}
    assert by_name["b.png"].params == (18.0, 18.0, 8.0, 6.0)
    assert (by_name["b.png"].width, by_name["b.png"].height) == (16, 12)
    assert by_name["a.png"].params == (9.0, 9.0, 4.0, 3.0)


def test_missing_and_unreadable_photographs_are_listed(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    text_model(tmp_path)
    (tmp_path / "images/a.png").unlink()
    (tmp_path / "images/b.png").write_bytes(b"no image")
    scene = read_scene(tmp_path, CONFIG)
    reasons = dict(scene.skipped)
    assert "no such file" in reasons["a.png"]
    assert "cannot be read as an image" in reasons["b.png"]
    assert "2 of 4 images are skipped" in caplog.text
    (tmp_path / "images/c.png").unlink()
    with pytest.raises(UserError, match="lists 4 images of which 1 can be used.*no"):
        read_scene(tmp_path, CONFIG)


def test_two_images_of_one_name(tmp_path: Path):
    text_model(tmp_path)
    path = tmp_path / "sparse/0/images.txt"
    path.write_text(path.read_text().replace("b.png", "a.png"))
    with pytest.raises(UserError, match=r"two images of the name 'a.png'"):
        read_scene(tmp_path, CONFIG)


def test_ids_follow_name_and_content_and_the_hash_follows_poses(tmp_path: Path):
    text_model(tmp_path)
    before = read_scene(tmp_path, CONFIG)
    assert len({image.id for image in before.images}) == 4  # same bytes, other names
    picture(8, 6, seed=9).save(tmp_path / "images/b.png")
    after = read_scene(tmp_path, CONFIG)
    assert [a.id == b.id for a, b in zip(before.images, after.images, strict=True)] == [True, False, True, True]
    assert scene_hash(before) != scene_hash(after)
    path = tmp_path / "sparse/0/images.txt"
    path.write_text(path.read_text().replace("0 0 1 1 c.png", "0 0 2 1 c.png"))
    moved = read_scene(tmp_path, CONFIG)
    assert [image.id for image in moved.images] == [image.id for image in after.images]
    assert scene_hash(moved) != scene_hash(after)


def test_exposure_of_damaged_exif_is_unknown():
    good = {33434: TiffImagePlugin.IFDRational(1, 60), 33437: TiffImagePlugin.IFDRational(28, 10), 34855: 100}

    def of(**changes) -> float | None:
        exif = Image.Exif()
        exif[0x8769] = good | {int(tag[1:]): value for tag, value in changes.items()}
        image = picture(8, 6)
        image.getexif().update(exif)
        image.getexif()._ifds[0x8769] = dict(exif[0x8769])
        return exposure_of(image)

    assert of() == pytest.approx(1 / 60 / 2.8**2)
    assert of(t34855=(100, 0)) == of()  # some cameras write the gain twice
    nothing = TiffImagePlugin.IFDRational(1, 0)
    for changes in (
        {"t33434": nothing},
        {"t33437": nothing},
        {"t33434": "1/60 s"},
        {"t34855": "auto"},
        {"t34855": 0},
        {"t33437": 0.0},
        {"t33434": b"\x01"},
        {"t34855": ()},
        {"t34855": None},
        {"t33434": -0.02},
        {"t33434": 1e9},
        {"t33437": float("nan")},
    ):
        assert of(**changes) is None, changes


def test_exposure_comes_from_exif(tmp_path: Path):
    text_model(tmp_path)
    for name, tags in {
        "a": {33434: (1, 50), 33437: (4, 1), 34855: 200},
        "b": {33434: (0, 50), 33437: (4, 1), 34855: 200},
        "c": {33434: (1, 50)},
    }.items():
        exif = Image.Exif()
        exif[0x8769] = {tag: TiffImagePlugin.IFDRational(*v) if isinstance(v, tuple) else v for tag, v in tags.items()}
        picture(8, 6).save(tmp_path / f"images/{name}.png", exif=exif)
    exposures = [image.exposure for image in read_scene(tmp_path, CONFIG).images]
    assert exposures[0] == pytest.approx(1 / 50 * 200 / 100 / 16)
    assert exposures[1:] == [None, None, None]


def test_masks_by_folder_and_of_the_wrong_size(tmp_path: Path):
    text_model(tmp_path)
    (tmp_path / "masks").mkdir()
    for name, size in {"a.png.png": (8, 6), "b.png": (8, 6), "c.png": (4, 6)}.items():
        Image.new("L", size, 255).save(tmp_path / "masks" / name)
    scene = read_scene(tmp_path, CONFIG)
    assert {image.name: [path.name for path in image.mask_paths] for image in scene.images} == {
        "a.png": ["a.png.png"],
        "b.png": ["b.png"],
        "d.png": [],
    }
    assert "is 4 x 6 pixels large, but the image 8 x 6" in dict(scene.skipped)["c.png"]
    without = read_scene(tmp_path, DatasetConfig(use_masks=False))
    assert [image.mask_paths for image in without.images] == [()] * 4


def test_no_capture_at_all(tmp_path: Path):
    with pytest.raises(UserError, match="no COLMAP model"):
        read_scene(tmp_path, CONFIG)
    with pytest.raises(UserError, match="There is no folder"):
        read_scene(tmp_path / "absent", CONFIG)
    with pytest.raises(UserError, match="no COLMAP model"):
        read_scene(tmp_path, DatasetConfig(type="colmap"))


@pytest.mark.parametrize("part", ["cameras", "images", "points3D"])
def test_a_stale_count_in_a_comment_is_mentioned_and_decides_nothing(
    tmp_path: Path, part: str, caplog: pytest.LogCaptureFixture
):
    colmap_capture(tmp_path, num_points=3, names=["0.png", "1.png"], kind="txt")
    path = tmp_path / "sparse/0" / f"{part}.txt"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[: -2 if part == "images" else -1]))
    model = read_model(path.parent)
    assert (len(model.cameras), len(model.images), len(model.point_ids)) == {
        "cameras": (0, 2, 3),
        "images": (1, 1, 3),
        "points3D": (1, 2, 2),
    }[part]
    assert f"{part}.txt holds" in caplog.text
    assert "truncated?" in caplog.text


@pytest.mark.parametrize("comment", ["# Number of images: 128, mean observations per image: 7", "#", "# no count"])
def test_comments_in_text_models_change_nothing(tmp_path: Path, comment: str):
    text_model(tmp_path)
    expected = scene_hash(read_scene(tmp_path, CONFIG))
    path = tmp_path / "sparse/0/images.txt"
    path.write_text(f"{comment}\n{path.read_text()}")
    assert scene_hash(read_scene(tmp_path, CONFIG)) == expected


def test_names_that_begin_with_the_image_folder_are_the_same_without_it(tmp_path: Path):
    colmap_capture(tmp_path, kind="txt", names=["a.png", "b/c.png"])
    (tmp_path / "masks/b").mkdir(parents=True)
    Image.new("L", (48, 36), 255).save(tmp_path / "masks/b/c.png")
    plain = read_scene(tmp_path, CONFIG)
    path = tmp_path / "sparse/0/images.txt"
    path.write_text(path.read_text().replace("a.png", "images/a.png").replace("b/c.png", "images/b/c.png"))
    prefixed = read_scene(tmp_path, CONFIG)
    assert scene_hash(prefixed) == scene_hash(plain)
    assert [image.drive for image in prefixed.images] == ["0", "b"]
    assert [len(image.mask_paths) for image in prefixed.images] == [0, 1]


def test_an_observation_line_may_be_empty_and_at_the_end_absent(tmp_path: Path):
    text_model(tmp_path)
    path = tmp_path / "sparse/0/images.txt"
    assert path.read_text().endswith("d.png\n")
    for announced, content in ((4, path.read_text()), (4, path.read_text() + "\n")):
        path.write_text(f"# Number of images: {announced}, mean observations per image: 1\n{content}")
        assert len(read_model(path.parent).images) == 4


def test_an_unreadable_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    text_model(tmp_path)
    opened = Path.open

    def refuse(path: Path, *arguments, **named):
        if path.name == "images.txt":
            raise PermissionError(13, "Permission denied")
        return opened(path, *arguments, **named)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(UserError, match=r"images.txt cannot be read: Permission denied"):
        read_scene(tmp_path, CONFIG)
