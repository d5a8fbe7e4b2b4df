"""EXIF orientation: whichever of its eight values, pictures, poses, masks and depth go together, and up stays up."""

from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps

from blocknerf.blocks.ground import estimate_up
from blocknerf.core.config.dataset import DatasetConfig
from blocknerf.core.errors import UserError
from blocknerf.scene.orientation import Orientation, exif_orientation, turned
from blocknerf.scene.readers.read import read_scene
from blocknerf.scene.scene import Scene, upright_poses_of
from blocknerf.scene.store import ImageStore
from tests.support.scene_builders import poses, transforms_capture, write_transforms

ALL = range(1, 9)
SIDEWAYS = (5, 6, 7, 8)
UPRIGHT_WH = (30, 40)


def stored(pixels: np.ndarray, exif: int) -> np.ndarray:
    """The pixels that a file of that orientation holds, so that a person sees `pixels`; by Pillow alone."""
    back = {6: 8, 8: 6}.get(exif, exif)
    image = Image.fromarray(pixels)
    image.getexif()[ExifTags.Base.Orientation] = back
    return np.asarray(ImageOps.exif_transpose(image))


def save(path: Path, pixels: np.ndarray, exif: int) -> None:
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = exif
    Image.fromarray(pixels).save(path, exif=tags)


def capture(
    root: Path, exifs: list[int], seen_wh: tuple[int, int], camera_wh: tuple[int, int] | None
) -> list[np.ndarray]:
    """transforms.json of cameras of that size, photographs that a person sees at `seen_wh`; returns what is seen."""
    tree = transforms_capture(root, count=len(exifs), size=seen_wh)
    for key, value in zip("wh", camera_wh or (), strict=False):
        tree[key] = value
    if camera_wh is None:
        tree = {key: value for key, value in tree.items() if key not in ("w", "h", "cx", "cy")}
    write_transforms(root, tree)
    seen = []
    for frame, exif in zip(tree["frames"], exifs, strict=True):
        path = root / frame["file_path"]
        with Image.open(path) as image:
            seen.append(np.asarray(image))
        save(path, stored(seen[-1], exif), exif)
    return seen


def opened(scene: Scene, tmp_path: Path) -> ImageStore:
    return ImageStore.open(scene, 1, tmp_path / "store", progress=False)


@pytest.mark.parametrize("exif", ALL)
def test_pixels_are_turned_as_pillow_turns_them_and_back(exif: int):
    pixels = np.arange(24, dtype=np.uint8).reshape(4, 6)
    lying = stored(pixels, exif)
    assert np.array_equal(turned(lying, exif), pixels)
    orientation = Orientation(exif, is_turned=True)
    assert np.array_equal(orientation.stored(orientation.picture(lying)), lying)
    assert orientation.picture_size(lying.shape[::-1]) == (6, 4)


@pytest.mark.parametrize("exif", ALL)
def test_up_is_that_of_the_same_pictures_stored_upright(exif: int):
    """A camera of stored pixels is the upright one turned about its optical axis (and mirrored, if the picture is)."""
    upright = np.stack(poses(7))
    corner = np.zeros((3, 3), np.uint8)
    corner[0, 1], corner[1, 2] = 1, 2  # a person's up and right
    lying = stored(corner, exif)
    (up_y, up_x), (right_y, right_x) = (np.argwhere(lying == value)[0] - 1 for value in (1, 2))
    axes = np.linalg.inv(np.array([[right_x, -up_x, 0], [right_y, -up_y, 0], [0, 0, 1]]))  # of the stored camera
    lying_poses = np.concatenate([upright[:, :, :3] @ axes, upright[:, :, 3:]], axis=2)
    orientation = Orientation(exif)
    held = np.stack([orientation.upright_pose(pose) for pose in lying_poses])
    assert np.allclose(held[:, :, 1:], upright[:, :, 1:])
    assert np.allclose(estimate_up(held), estimate_up(upright))
    mixed = np.concatenate([held[:3], upright[3:]])
    assert np.allclose(estimate_up(mixed), estimate_up(upright))


@pytest.mark.parametrize("exif", SIDEWAYS)
@pytest.mark.parametrize("scale", [1, 2])
def test_the_cameras_size_tells_which_picture_it_is_of(
    tmp_path: Path, exif: int, scale: int, caplog: pytest.LogCaptureFixture
):
    """Also where the camera is of another size of the same proportions."""
    for name, camera_wh, is_turned in (("upright", (30, 40), True), ("stored", (40, 30), False)):
        root = tmp_path / name
        seen = capture(
            root, [exif, 1, exif] if is_turned else [exif] * 3, UPRIGHT_WH, tuple(scale * n for n in camera_wh)
        )
        scene = read_scene(root, DatasetConfig())
        store = opened(scene, root)
        assert [image.orientation.is_turned for image in scene.images].count(True) == (2 if is_turned else 0)
        assert ("turned upright" in caplog.text) == is_turned
        caplog.clear()
        for image, pixels in zip(scene.images, seen, strict=True):
            assert np.array_equal(store.rgb(image.id), pixels if is_turned else stored(pixels, exif))
            camera = scene.cameras[image.camera_key]
            assert (camera.height, camera.width) == store.size(image.id)


def test_upright_files_are_read_as_ever(tmp_path: Path):
    capture(tmp_path, [1, 1, 1], UPRIGHT_WH, UPRIGHT_WH)
    scene = read_scene(tmp_path, DatasetConfig())
    assert {image.orientation for image in scene.images} == {Orientation()}
    assert np.array_equal(upright_poses_of(scene.images), [image.world_from_cam for image in scene.images])


@pytest.mark.parametrize("exif", [0, 9, 77])
def test_an_orientation_that_is_none_counts_as_upright(tmp_path: Path, exif: int):
    save(tmp_path / "a.png", np.zeros((4, 6), np.uint8), exif)
    with Image.open(tmp_path / "a.png") as image:
        assert exif_orientation(image) == 1


@pytest.mark.parametrize("exif", [2, 3, 4])
@pytest.mark.parametrize("others", [None, 6])
def test_what_sizes_do_not_tell_the_other_pictures_tell(
    tmp_path: Path, exif: int, others: int | None, caplog: pytest.LogCaptureFixture
):
    seen = capture(tmp_path, [exif, others or 1, exif], UPRIGHT_WH, UPRIGHT_WH)
    scene = read_scene(tmp_path, DatasetConfig())
    assert scene.images[0].orientation == Orientation(exif, is_turned=others is not None)
    assert ("does not tell" in caplog.text) == (others is None)
    expected = stored(seen[0], exif) if others is None else seen[0]
    assert np.array_equal(opened(scene, tmp_path).rgb(scene.images[0].id), expected)


def test_square_pictures_and_unknown_sizes_are_taken_as_stored(tmp_path: Path):
    for name, seen_wh, camera_wh in (("square", (30, 30), (30, 30)), ("unknown", (30, 40), None)):
        seen = capture(tmp_path / name, [6, 6, 6], seen_wh, camera_wh)
        scene = read_scene(tmp_path / name, DatasetConfig())
        assert np.array_equal(opened(scene, tmp_path / name).rgb(scene.images[0].id), stored(seen[0], 6))


@pytest.mark.parametrize("exif", SIDEWAYS)
@pytest.mark.parametrize("camera_wh", [(30, 40), (40, 30)])
@pytest.mark.parametrize("mask_is_upright", [True, False])
@pytest.mark.parametrize("scale", [1, 2])
def test_masks_and_depth_are_turned_as_the_picture_is(
    tmp_path: Path, exif: int, camera_wh: tuple[int, int], mask_is_upright: bool, scale: int
):
    capture(tmp_path, [exif] * 3, UPRIGHT_WH, camera_wh)
    kept = np.random.default_rng(exif).random((40, 30)) < 0.7
    depth = np.random.default_rng(exif).uniform(1, 9, (40, 30)).astype(np.float32)
    made = [np.kron(array, np.ones((scale, scale), array.dtype)) for array in (kept.astype(np.uint8) * 255, depth)]
    mask, depth_file = made if mask_is_upright else [stored(array, exif) for array in made]
    (tmp_path / "masks").mkdir()
    Image.fromarray(mask).save(tmp_path / "masks/0000.png")
    np.save(tmp_path / "depth.npy", depth_file)
    (tmp_path / "blocknerf_scene.json").write_text('{"version": 1, "images": {"0000.png": {"depth": "depth.npy"}}}')
    scene = read_scene(tmp_path, DatasetConfig(use_depth=True))
    store = opened(scene, tmp_path)
    is_turned = camera_wh == UPRIGHT_WH
    assert np.array_equal(store.valid(scene.images[0].id), kept if is_turned else stored(kept, exif))
    assert np.array_equal(store.depth_z_m(scene.images[0].id), depth if is_turned else stored(depth, exif))


def test_a_mask_of_neither_size_is_still_refused(tmp_path: Path):
    capture(tmp_path, [6] * 3, UPRIGHT_WH, UPRIGHT_WH)
    (tmp_path / "masks").mkdir()
    for number in range(3):
        Image.new("L", (33, 33), 255).save(tmp_path / f"masks/000{number}.png")
    with pytest.raises(UserError, match="33 x 33 pixels large, but the image 30 x 40"):
        read_scene(tmp_path, DatasetConfig())
