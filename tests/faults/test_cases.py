"""Small captures that once failed, each read right or refused with the true reason (BLOCKNERF_CASES=folder of cases).

The captures are not part of the project: where the folder is missing, the tests say so and are skipped.
"""

import logging
import os
import shutil
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("BLOCKNERF_CASES" not in os.environ, reason="BLOCKNERF_CASES names no folder of cases"),
]


@pytest.fixture
def case(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A copy of the case that the test's marker or parameter names, free to be written to."""
    folder = Path(os.environ["BLOCKNERF_CASES"]) / request.param
    return Path(shutil.copytree(folder, tmp_path / request.param))


@pytest.mark.parametrize("case", ["colmap-txt-one-line"], indirect=True)
def test_a_text_model_without_observations_is_refused(case: Path) -> None:
    from blocknerf.core.config.dataset import DatasetConfig
    from blocknerf.core.errors import UserError
    from blocknerf.scene.readers.read import read_scene

    with pytest.raises(UserError, match="images.txt"):
        read_scene(case, DatasetConfig())


@pytest.mark.parametrize(
    ("case", "images", "message"),
    [
        ("colmap-two-submodels", 20, "dataset.colmap_model=sparse/0"),
        ("colmap-txt-hand-edited", 10, "a comment in it says 128"),
        ("ns-folder-small-first-model", 12, "dataset.colmap_model=colmap/sparse/0"),
        ("ns-folder-with-colmap", 12, "it names masks and a split"),
    ],
    indirect=["case"],
)
def test_of_several_captures_the_best_is_read_and_said(
    case: Path, images: int, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    from blocknerf.core.config.dataset import DatasetConfig
    from blocknerf.scene.readers.read import read_scene

    caplog.set_level(logging.INFO)
    scene = read_scene(case, DatasetConfig())
    assert len(scene.images) == images
    assert message in caplog.text
    if case.name == "ns-folder-with-colmap":
        assert len(scene.test_names or ()) == 3
        assert all(image.mask_paths for image in scene.images)


@pytest.mark.parametrize("case", ["exif-orientation-display-poses"], indirect=True)
def test_poses_of_upright_pictures_are_read_upright(case: Path, caplog: pytest.LogCaptureFixture) -> None:
    from blocknerf.core.config.dataset import DatasetConfig
    from blocknerf.scene.readers.read import read_scene

    caplog.set_level(logging.INFO)
    scene = read_scene(case, DatasetConfig())
    assert len(scene.images) == 12
    assert all(image.orientation.is_turned for image in scene.images)
    assert "12 photographs" in caplog.text


@pytest.mark.parametrize("case", ["colmap-portrait-sideways"], indirect=True)
def test_up_is_a_persons_up_where_pixels_lie_on_their_side(case: Path) -> None:
    import numpy as np

    from blocknerf.blocks.ground import ground_frame
    from blocknerf.core.config.dataset import DatasetConfig
    from blocknerf.scene.readers.read import read_scene
    from blocknerf.scene.scene import upright_poses_of

    frame = ground_frame(upright_poses_of(read_scene(case, DatasetConfig()).images))
    assert np.degrees(np.arccos(frame.ground_from_world[2] @ [-0.01266, -0.96310, 0.26884])) < 1
    assert frame.extent_m == pytest.approx((8.83, 6.13), abs=0.02)


@pytest.mark.parametrize(
    ("case", "camera", "message"),
    [
        ("blender-train-test", "PINHOLE", ""),
        ("blender-scaled-camera", "OPENCV", "12 of 12 poses are scaled, by 0.5 to 0.5"),
        ("ext-case-mismatch", "OPENCV", "other capital letters (12, "),
        ("json-string-numbers", "OPENCV", ""),
        ("json-bom", "OPENCV", ""),
        ("llff-appledouble", "SIMPLE_PINHOLE", ""),
        ("ngp-dynamic-mask", "OPENCV", ""),
        ("ngp-ftheta", "OPENCV_FISHEYE", ""),
        ("ngp-latlong", "EQUIRECTANGULAR", ""),
        ("ngp-no-wh-small-images", "OPENCV", "8 times as large"),
        ("ngp-x-fov", "PINHOLE", ""),
        ("ns-k4-polynomial", "FULL_OPENCV", ""),
        ("ns-windows-absolute", "OPENCV", "without the folders in front (12, "),
        ("ns-duplicate-frames", "OPENCV", "1 of 13 images are listed again"),
        ("only-images-8", "OPENCV", "a scaled copy of the folder (12, "),
        ("unicode-nfd", "OPENCV", "another Unicode form (12, "),
    ],
    indirect=["case"],
)
def test_transforms_of_other_programs_and_machines(
    case: Path, camera: str, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    from blocknerf.core.config.dataset import DatasetConfig
    from blocknerf.scene.readers.read import read_scene

    scene = read_scene(case, DatasetConfig())
    assert len(scene.images) == 12
    assert {one.model for one in scene.cameras.values()} == {camera}
    assert scene.skipped == ()
    assert message in caplog.text
    assert bool(scene.test_names) == (case.name == "blender-train-test")
    assert all(len(image.mask_paths) == (case.name == "ngp-dynamic-mask") for image in scene.images)
    if camera in ("PINHOLE", "OPENCV"):  # all are the fox at an eighth of its size
        (of_all,) = scene.cameras.values()
        assert of_all.params[:4] == pytest.approx((171.94, 171.81, of_all.params[2], of_all.params[3]), abs=0.2)


@pytest.mark.parametrize(
    ("case", "pictures"),
    [
        ("prepare-colour-kinds", 10),
        ("prepare-mpo-portrait", 8),
        ("prepare-spaced-names", 8),
        ("prepare-webp", 6),
        ("prepare-image-pyramid", 6),
    ],
    indirect=["case"],
)
def test_every_photograph_is_prepared_once_and_as_it_is_meant_to_be_seen(case: Path, pictures: int, caplog) -> None:
    import numpy as np
    from PIL import Image, ImageOps

    from blocknerf.core.config.dataset import DatasetConfig
    from blocknerf.prepare.prepare import Settings, prepare
    from blocknerf.scene.photographs import read_rgb
    from blocknerf.scene.readers.read import read_scene

    (source,) = (folder for folder in case.iterdir() if folder.is_dir())
    figures = prepare(source, case / "out", Settings())
    assert (figures["registered"], figures["pictures"]) == (pictures, pictures)
    scene = read_scene(case / "out", DatasetConfig())
    assert len({image.drive for image in scene.images}) == 1
    assert ": ." not in caplog.text
    for image in scene.images:
        original = (source / "images" if (source / "images").is_dir() else source) / image.name
        with Image.open(original) as photograph:
            photograph.load()
            if photograph.mode not in ("RGB", "L"):
                continue
            meant = np.asarray(ImageOps.exif_transpose(photograph).convert("RGB"), float)
        squared = (np.asarray(read_rgb(image.path), float) - meant) ** 2
        assert 10 * np.log10(255**2 / max(squared.mean(), 1e-9)) > 40


@pytest.mark.parametrize("case", ["video-colours"], indirect=True)
def test_videos_of_one_picture_have_one_colour_whatever_matrix_and_range_they_are_in(case: Path) -> None:
    import numpy as np

    from blocknerf.prepare.video import sharpest_frames

    frames = {path.stem: next(sharpest_frames(path, 1.0, lambda _: None)).rgb for path in sorted(case.glob("bt*.mp4"))}
    first, *others = (frame.astype(float) for frame in frames.values())
    for other in others:
        assert np.abs(first - other).mean() < 3, list(frames)


@pytest.mark.parametrize("case", ["colmap-utm-offset"], indirect=True)
def test_a_model_in_utm_is_shifted_and_its_offset_kept(case: Path) -> None:
    import numpy as np

    from blocknerf.core.config.dataset import DatasetConfig
    from blocknerf.scene.readers.read import read_scene

    scene = read_scene(case, DatasetConfig())
    assert len(scene.images) == 12
    assert np.abs(scene.centers_world).max() < 100
    assert np.allclose(np.median(scene.centers_world + scene.world_offset_m, axis=0), [460029, 5300010, 317], atol=20)


@pytest.mark.parametrize("case", ["ns-depth-npy-mm"], indirect=True)
def test_whole_numbers_of_depth_are_millimetres(case: Path) -> None:
    from blocknerf.core.config.dataset import DatasetConfig
    from blocknerf.scene.readers.read import read_scene
    from blocknerf.scene.store import ImageStore

    scene = read_scene(case, DatasetConfig(use_depth=True))
    store = ImageStore.open(scene, 1, case / "store", progress=False)
    for image in scene.images:
        depth_z_m = store.depth_z_m(image.id)
        assert depth_z_m is not None
        assert depth_z_m.max() == pytest.approx(4.0, abs=1e-5)


@pytest.mark.parametrize("case", ["ns-camera-path"], indirect=True)
def test_a_path_in_nerfstudios_frame_is_brought_back(case: Path, caplog: pytest.LogCaptureFixture) -> None:
    import numpy as np

    from blocknerf.export.paths import read_camera_path

    moved = [view.world_from_cam for view in read_camera_path(case / "camera_path.json")]
    (case / "dataparser_transforms.json").unlink()
    raw = [view.world_from_cam for view in read_camera_path(case / "camera_path.json")]
    first, other = (np.ptp([pose[:, 3] for pose in poses], axis=0) for poses in (moved, raw))
    assert np.allclose(0.01414309469031017 * first, other)
    assert np.allclose(moved[0][:, 3], raw[0][:, 3] / 0.01414309469031017 + [5.205883, 9.296342, 2.001220], atol=1e-4)


@pytest.mark.parametrize("case", ["photo-200-megapixels"], indirect=True)
def test_200_megapixels_are_read(case: Path) -> None:
    from blocknerf.core.config.dataset import DatasetConfig
    from blocknerf.scene.readers.read import read_scene

    scene = read_scene(case, DatasetConfig())
    assert {(camera.width, camera.height) for camera in scene.cameras.values()} == {(16320, 12240)}
    assert scene.skipped == ()


@pytest.mark.parametrize(
    ("case", "capture"),
    [("export-blocks-escapes", "project/work/ns/run1"), ("colmap-txt-spaced-names", ".")],
    indirect=["case"],
)
def test_blocks_are_exported_whole_and_no_original_is_touched(case: Path, capture: str) -> None:
    import numpy as np

    from blocknerf.blocks.output import plan_scene
    from blocknerf.core.config.dataset import DatasetConfig
    from blocknerf.core.config.load import load_config
    from blocknerf.export.block_scenes import write_block_scenes
    from blocknerf.export.depth_maps import depth_paths, write_depth
    from blocknerf.scene.colmap_module import pycolmap
    from blocknerf.scene.readers.read import read_scene

    def originals() -> dict[Path, bytes | None]:
        return {
            path: path.read_bytes() if path.is_file() and not path.is_symlink() else None
            for path in case.rglob("*")
            if not path.is_relative_to(out)
        }

    out = case / capture / "out"
    before = originals()
    _, scene, plan = plan_scene(load_config(None), case / capture, out / "city")
    for how in ("copy", "link"):
        for written in write_block_scenes(out / "blocks", scene, plan, how, with_test=True):
            model = pycolmap.Reconstruction(str(written.folder / "sparse" / "0"))
            names = {image.name for image in model.images.values()}
            read = read_scene(written.folder, DatasetConfig())
            assert len(names) == len(read.images) == written.images > 0
            assert {path.name for path in (written.folder / "images").rglob("*.*")} == {
                Path(name).name for name in names
            }
    depth = np.ones((2, 3), np.float32)
    for path in depth_paths(out / "depth", [image.name for image in scene.images], "depth_z_m", "npy"):
        write_depth(path, depth, depth, "depth_z_m", "npy")
    assert len(list((out / "depth").rglob("*.npy"))) == len(scene.images)
    assert originals() == before
