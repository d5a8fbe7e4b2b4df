"""Masks of moving things: found by every kind of scene, added to those made by hand, never in their place."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blocknerf.core.config.dataset import DatasetConfig
from blocknerf.core.errors import UserError
from blocknerf.core.logging import log
from blocknerf.scene import transients
from blocknerf.scene.photographs import dilated, read_mask, read_masks
from blocknerf.scene.readers.read import read_scene
from blocknerf.scene.store import ImageStore
from blocknerf.scene.transients import make_masks
from tests.support.scene_builders import colmap_capture, picture, transforms_capture, write_transforms

SETTINGS = {"model": "test", "classes": ["car"]}


def red_is_a_car(rgb: np.ndarray) -> np.ndarray:
    return (rgb[..., 0] > 200).astype(np.float32)


def refuse(rgb: np.ndarray) -> np.ndarray:
    raise AssertionError("this picture has its mask")


def colmap_scene(root: Path) -> None:
    colmap_capture(root, names=["noon/0.png", "noon/1.png", "2.jpg"], size=(48, 36))


def transforms_scene(root: Path) -> None:
    transforms_capture(root, size=(48, 36))


def transforms_scene_with_one_mask_for_all(root: Path) -> None:
    tree = transforms_capture(root, size=(48, 36))
    mask = np.full((36, 48), 255, np.uint8)
    mask[30:] = 0  # the car's own bonnet
    Image.fromarray(mask).save(root / "bonnet.png")
    write_transforms(root, {**tree, "frames": [{**frame, "mask_path": "bonnet.png"} for frame in tree["frames"]]})


def scene_with_sidecar(root: Path) -> None:
    colmap_scene(root)
    (root / "by_hand").mkdir()
    mask = np.full((36, 48), 255, np.uint8)
    mask[:, :5] = 0
    Image.fromarray(mask).save(root / "by_hand/0.png")
    sidecar = {"version": 1, "images": {"noon/0.png": {"mask": "by_hand/0.png"}}}
    (root / "blocknerf_scene.json").write_text(json.dumps(sidecar))


SCENES = [colmap_scene, transforms_scene, transforms_scene_with_one_mask_for_all, scene_with_sidecar]


@pytest.mark.parametrize("build", SCENES)
def test_training_leaves_out_what_was_found_and_what_was_hidden_by_hand(tmp_path: Path, build):
    build(tmp_path)
    before = read_scene(tmp_path, DatasetConfig())
    shares = make_masks(tmp_path, red_is_a_car, SETTINGS, 0.0, overwrite=False)
    scene = read_scene(tmp_path, DatasetConfig())
    store = ImageStore.open(scene, 1, tmp_path / "store", progress=False)
    assert set(shares) == {image.name for image in before.images}
    for image, old in zip(scene.images, before.images, strict=True):
        kept = np.asarray(Image.open(image.path).convert("RGB"))[..., 0] <= 200
        for path in old.mask_paths:
            kept = kept & (np.asarray(Image.open(path)) > 0)
        assert np.array_equal(store.valid(image.id), kept)
        assert 0.02 < shares[image.name] == pytest.approx(1 - kept.mean(), abs=1e-6)
    assert not any(image.mask_paths for image in read_scene(tmp_path, DatasetConfig(use_masks=False)).images)


def test_masks_made_by_hand_are_not_touched(tmp_path: Path):
    colmap_scene(tmp_path)
    by_hand = {"noon/0.png.png": 1, "noon/1.png": 2, "2.jpg.png": 3}
    for name, seed in by_hand.items():
        path = tmp_path / "masks" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(48, 36, seed).convert("1").save(path)
    before = {name: (tmp_path / "masks" / name).read_bytes() for name in by_hand}
    for overwrite in (False, True):
        make_masks(tmp_path, red_is_a_car, SETTINGS, 0.0, overwrite)
        assert {name: (tmp_path / "masks" / name).read_bytes() for name in by_hand} == before
    assert [len(image.mask_paths) for image in read_scene(tmp_path, DatasetConfig()).images] == [2, 2, 2]


def test_a_mask_is_black_where_a_thing_moves_and_white_elsewhere(tmp_path: Path):
    colmap_scene(tmp_path)
    make_masks(tmp_path, red_is_a_car, SETTINGS, 0.0, overwrite=False)
    with Image.open(tmp_path / "masks/transient/noon/0.png.png") as mask:
        assert mask.mode == "L"
        red = np.asarray(Image.open(tmp_path / "images/noon/0.png"))[..., 0]
        assert np.array_equal(np.asarray(mask), np.where(red > 200, 0, 255))


def test_it_goes_on_where_it_was_stopped_and_keeps_what_was_corrected(tmp_path: Path):
    colmap_scene(tmp_path)
    looked_at = []

    def stopped(rgb: np.ndarray) -> np.ndarray:
        if len(looked_at) == 2:
            raise KeyboardInterrupt
        looked_at.append(rgb)
        return red_is_a_car(rgb)

    with pytest.raises(KeyboardInterrupt):
        make_masks(tmp_path, stopped, SETTINGS, 0.0, overwrite=False)
    masks = sorted((tmp_path / "masks/transient").rglob("*.png"))
    assert len(masks) == 2
    Image.new("L", (48, 36), 255).save(masks[0])
    corrected = masks[0].read_bytes()
    looked_at.clear()
    make_masks(tmp_path, stopped, SETTINGS, 0.0, overwrite=False)
    assert len(looked_at) == 1
    assert masks[0].read_bytes() == corrected
    make_masks(tmp_path, refuse, SETTINGS, 0.0, overwrite=False)
    make_masks(tmp_path, red_is_a_car, SETTINGS, 0.0, overwrite=True)
    assert masks[0].read_bytes() != corrected
    assert not [path for path in (tmp_path / "masks").rglob("*") if path.name.endswith(".tmp")]


def test_masks_of_other_settings_do_not_mix(tmp_path: Path):
    colmap_scene(tmp_path)
    make_masks(tmp_path, red_is_a_car, SETTINGS, 0.0, overwrite=False)
    before = sorted((tmp_path / "masks/transient").rglob("*.png"))
    for settings, dilate in (({**SETTINGS, "classes": ["bus"]}, 0.0), (SETTINGS, 0.1)):
        with pytest.raises(UserError, match=r"made with other settings.*--overwrite"):
            make_masks(tmp_path, refuse, settings, dilate, overwrite=False)
    assert sorted((tmp_path / "masks/transient").rglob("*.png")) == before
    shares = make_masks(tmp_path, red_is_a_car, SETTINGS, 0.1, overwrite=True)
    report = json.loads((tmp_path / "masks/transient/report.json").read_text())
    assert report == {"version": 1, "made_with": {**SETTINGS, "dilate": 0.1}, "hidden": shares}


def test_pictures_of_others_in_its_folder_are_refused(tmp_path: Path):
    colmap_scene(tmp_path)
    (tmp_path / "masks/transient").mkdir(parents=True)
    picture(48, 36).save(tmp_path / "masks/transient/2.jpg.png")
    for overwrite in (False, True):
        with pytest.raises(UserError, match=r"did not make them\. Move that folder"):
            make_masks(tmp_path, refuse, SETTINGS, 0.0, overwrite)
    assert (tmp_path / "masks/transient/2.jpg.png").is_file()


def test_a_folder_without_a_scene_gets_no_masks(tmp_path: Path):
    with pytest.raises(UserError, match="no COLMAP model"):
        make_masks(tmp_path, refuse, SETTINGS, 0.0, overwrite=False)
    assert list(tmp_path.iterdir()) == []


def test_an_image_that_is_nearly_hidden_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch):
    colmap_scene(tmp_path)
    monkeypatch.setattr(log, "propagate", True)

    def all_but_a_corner(rgb: np.ndarray) -> np.ndarray:
        found = red_is_a_car(rgb)
        if np.array_equal(rgb, np.asarray(Image.open(tmp_path / "images/noon/1.png"))):
            found[:] = 1
            found[:4, :4] = 0
        return found

    make_masks(tmp_path, all_but_a_corner, SETTINGS, 0.0, overwrite=False)
    (warning,) = {record.getMessage() for record in caplog.records if record.levelname == "WARNING"}
    assert warning.startswith("1 images are hidden to 95 % or more: noon/1.png.")


def test_what_cannot_be_decoded_gets_no_mask_and_is_named(tmp_path: Path, caplog, monkeypatch):
    colmap_scene(tmp_path)
    monkeypatch.setattr(log, "propagate", True)
    path = tmp_path / "images/noon/1.png"
    path.write_bytes(path.read_bytes()[:400])
    shares = make_masks(tmp_path, red_is_a_car, SETTINGS, 0.0, overwrite=False)
    assert set(shares) == {"noon/0.png", "2.jpg"}
    assert any(f"{path} gets no mask" in record.getMessage() for record in caplog.records)


def test_the_overview_shows_pictures_with_what_is_hidden_tinted(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(transients, "_SHEET_COLUMNS", 2)
    colmap_scene(tmp_path)
    for name in ("noon/0.png", "noon/1.png", "2.jpg"):
        Image.new("RGB", (48, 36), (10, 200, 10)).save(tmp_path / "images" / name)

    def left_half(rgb: np.ndarray) -> np.ndarray:
        return (np.indices(rgb.shape[:2])[1] < 24).astype(np.float32)

    make_masks(tmp_path, left_half, SETTINGS, 0.0, overwrite=False)
    sheet = np.asarray(Image.open(tmp_path / "masks/overview.png"))
    assert sheet.shape == (2 * (200 + 18), 2 * (200 + 6), 3)
    left, right = sheet[18, 12].astype(int), sheet[18, 36].astype(int)
    assert np.abs(left - (157, 80, 157)).max() < 12  # 0.6 magenta
    assert np.abs(right - (10, 200, 10)).max() < 12


@pytest.mark.parametrize("radius", [0, 1, 3, 40])
def test_dilated_is_within_reach_of_something_hidden(radius: int):
    hidden = np.random.default_rng(radius).random((17, 23)) < 0.01
    assert hidden.any()
    rows, columns = np.nonzero(hidden)
    y, x = np.arange(17)[:, None, None], np.arange(23)[:, None]
    reach = np.maximum(abs(y - rows), abs(x - columns)).min(-1)
    assert np.array_equal(dilated(hidden, radius), reach <= radius)


def test_dilation_is_a_share_of_the_longer_side(tmp_path: Path):
    colmap_scene(tmp_path)

    def one_pixel(rgb: np.ndarray) -> np.ndarray:
        found = np.zeros(rgb.shape[:2], np.float32)
        found[10, 20] = 1
        return found

    make_masks(tmp_path, one_pixel, SETTINGS, 3 / 48, overwrite=False)
    hidden = np.asarray(Image.open(tmp_path / "masks/transient/2.jpg.png")) == 0
    assert hidden[7:14, 17:24].all()
    assert hidden.sum() == 49


# --- masks of another size, and of a kind that holds no exact 0 ------------------------------------------------------


@pytest.mark.parametrize("factor", [2, 3])
def test_a_smaller_mask_hides_every_pixel_under_its_hidden_ones(tmp_path: Path, factor: int):
    hidden = np.random.default_rng(0).random((5, 7)) < 0.3
    Image.fromarray(np.where(hidden, 0, 255).astype(np.uint8)).save(tmp_path / "m.png")
    kept = read_masks((tmp_path / "m.png",), (7 * factor, 5 * factor))
    assert kept is not None
    assert np.array_equal(~kept, hidden.repeat(factor, 0).repeat(factor, 1))


@pytest.mark.parametrize("size", [(12, 9), (11, 8), (5, 4)])
def test_a_larger_mask_loses_no_hidden_pixel(tmp_path: Path, size: tuple[int, int]):
    for row, column in np.random.default_rng(0).integers(0, (27, 36), (60, 2)).tolist():
        mask = np.full((27, 36), 255, np.uint8)
        mask[row, column] = 0
        Image.fromarray(mask).save(tmp_path / "m.png", compress_level=0)
        kept = read_masks((tmp_path / "m.png",), size)
        assert kept is not None
        share_y, share_x = size[1] / 27, size[0] / 36
        assert not kept.all()
        for y, x in np.argwhere(~kept).tolist():  # no pixel but those that the hidden one falls into
            assert y < (row + 1) * share_y
            assert y + 1 > row * share_y
            assert x < (column + 1) * share_x
            assert x + 1 > column * share_x


def test_a_mask_of_another_size_is_used_with_its_image(tmp_path: Path):
    transforms_capture(tmp_path, size=(40, 30))
    (tmp_path / "masks").mkdir()
    mask = np.full((15, 20), 255, np.uint8)
    mask[3, 4] = 0
    Image.fromarray(mask).save(tmp_path / "masks/0001.png")
    scene = read_scene(tmp_path, DatasetConfig())
    store = ImageStore.open(scene, 1, tmp_path / "store", progress=False)
    image = next(image for image in scene.images if image.name == "0001.png")
    assert np.argwhere(~store.valid(image.id)).tolist() == [[6, 8], [6, 9], [7, 8], [7, 9]]


def test_the_noise_of_a_jpeg_hides_and_keeps_like_black_and_white(tmp_path: Path):
    hidden = np.zeros((32, 32), bool)
    hidden[:, 13:] = True
    Image.fromarray(np.where(hidden, 0, 255).astype(np.uint8)).save(tmp_path / "m.jpg", quality=60)
    noisy = np.asarray(Image.open(tmp_path / "m.jpg"))
    assert (noisy[hidden] > 0).any()
    assert np.array_equal(read_mask(tmp_path / "m.jpg"), ~hidden)


OTHER_NAMES = [
    ("masks", "0001.PNG"),
    ("masks", "0001.png.PNG"),
    ("masks", "0001.jpg"),
    ("masks", "0001.png.tif"),
    ("Masks", "0001.png"),
    ("masks_2", "0001.png"),
]


@pytest.mark.parametrize(("folder", "name"), OTHER_NAMES)
def test_a_mask_that_nearly_has_its_name_is_found(tmp_path: Path, folder: str, name: str):
    transforms_capture(tmp_path, size=(40, 30))
    hidden = np.full((30, 40), 255, np.uint8)
    hidden[:15] = 0
    (tmp_path / folder).mkdir()
    Image.fromarray(hidden).save(tmp_path / folder / name)
    masks = {image.name: image.mask_paths for image in read_scene(tmp_path, DatasetConfig()).images}
    assert masks["0001.png"] == (tmp_path / folder / name,)
    assert not any(paths for image, paths in masks.items() if image != "0001.png")


def test_a_mask_that_another_system_wrote_in_another_unicode_form_is_found(tmp_path: Path):
    colmap_capture(tmp_path, names=["Caf\u00e9 1.png", "2.png", "3.png"], size=(48, 36))
    (tmp_path / "masks").mkdir()
    Image.fromarray(np.full((36, 48), 255, np.uint8)).save(tmp_path / "masks/Cafe\u0301 1.png")
    masks = {image.name: image.mask_paths for image in read_scene(tmp_path, DatasetConfig()).images}
    assert [bool(paths) for _, paths in sorted(masks.items())] == [False, False, True]


def test_a_mask_of_another_camera_is_none(tmp_path: Path):
    """The folders of a name belong to it: cam1/0.png hides nothing in cam0/0.png."""
    colmap_capture(tmp_path, names=["cam0/0.png", "cam1/0.png", "cam1/1.png"], size=(48, 36))
    (tmp_path / "masks/cam1").mkdir(parents=True)
    for place in ("masks/cam1/0.PNG", "masks/1.png"):
        Image.fromarray(np.full((36, 48), 255, np.uint8)).save(tmp_path / place)
    masks = {image.name: len(image.mask_paths) for image in read_scene(tmp_path, DatasetConfig()).images}
    assert masks == {"cam0/0.png": 0, "cam1/0.png": 1, "cam1/1.png": 0}


def test_an_image_with_two_masks_of_nearly_its_name_is_left_out_with_the_reason(tmp_path: Path):
    transforms_capture(tmp_path, size=(40, 30))
    (tmp_path / "masks").mkdir()
    for name in ("0001.Png", "0001.PNG"):
        Image.fromarray(np.full((30, 40), 255, np.uint8)).save(tmp_path / "masks" / name, "PNG")
    skipped = dict(read_scene(tmp_path, DatasetConfig()).skipped)
    assert "it may be masks/0001.PNG or masks/0001.Png: rename or remove one" in skipped["0001.png"]


def test_files_that_the_sidecar_names_are_found_by_other_capital_letters(tmp_path: Path):
    scene_with_sidecar(tmp_path)
    (tmp_path / "by_hand/0.png").rename(tmp_path / "by_hand/0.PNG")
    masks = {image.name: image.mask_paths for image in read_scene(tmp_path, DatasetConfig()).images}
    assert masks["noon/0.png"] == (tmp_path / "by_hand/0.PNG",)


def test_masks_beside_photographs_are_no_photographs(tmp_path: Path):
    """instant-ngp's, in a COLMAP capture too: they hide where they are not 0."""
    colmap_capture(tmp_path, names=["0.png", "1.png", "2.png"], size=(48, 36))
    hidden = np.zeros((36, 48), np.uint8)
    hidden[:9] = 255
    Image.fromarray(hidden).save(tmp_path / "images/dynamic_mask_1.png")
    scene = read_scene(tmp_path, DatasetConfig())
    masks = {image.name: image.mask_paths for image in scene.images}
    assert masks == {"0.png": (), "1.png": (tmp_path / "images/dynamic_mask_1.png",), "2.png": ()}
    kept = read_masks(masks["1.png"], (48, 36))
    assert kept is not None
    assert not kept[:9].any()
    assert kept[9:].all()
