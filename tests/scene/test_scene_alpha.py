"""Transparent pixels become what was chosen, at every size; nothing is chosen in silence."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blocknerf.core.config.dataset import DatasetConfig
from blocknerf.core.config.load import load_config
from blocknerf.core.errors import UserError
from blocknerf.scene.background import say_other_ground
from blocknerf.scene.orientation import AS_STORED, Orientation
from blocknerf.scene.photographs import opened_picture, read_picture
from blocknerf.scene.readers.read import read_scene
from blocknerf.scene.store import ImageStore
from tests.support.scene_builders import transforms_capture

ASKED = r"has transparent pixels.* dataset\.alpha=white"


def rgba(seed: int, alpha: np.ndarray | None = None) -> np.ndarray:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (32, 40, 4), np.uint8)
    pixels[..., 3] = rng.choice([0, 40, 128, 255], (32, 40)) if alpha is None else alpha
    return pixels


def capture(root: Path, alpha: np.ndarray | None = None) -> list[np.ndarray]:
    transforms_capture(root, size=(40, 32))
    pictures = [rgba(seed, alpha) for seed in range(4)]
    for number, picture in enumerate(pictures):
        Image.fromarray(picture).save(root / f"images/{number:04d}.png")
    return pictures


def opened(root: Path, config: DatasetConfig, downsample: int = 1) -> ImageStore:
    return ImageStore.open(read_scene(root, config), downsample, root / "store", progress=False)


@pytest.mark.parametrize("ground", ["white", "black"])
def test_transparent_pixels_become_what_is_chosen(tmp_path: Path, ground):
    """dataset.alpha: colour x alpha + ground x (1 - alpha), and the mean of that, as of premultiplied colours."""
    pictures = capture(tmp_path)
    value = {"white": 255.0, "black": 0.0}[ground]
    store = opened(tmp_path, DatasetConfig(alpha=ground))
    for number, picture in enumerate(pictures):
        share = picture[..., 3:] / 255.0
        laid = picture[..., :3] * share + value * (1 - share)
        for level, factor in enumerate((1, 2, 4)):
            means = laid.reshape(32 // factor, factor, 40 // factor, factor, 3).mean(axis=(1, 3))
            assert np.abs(store.rgb(store.image_ids[number], level) - means).max() <= 1.5
    assert store.level(0).valid is None


def test_as_a_mask_transparent_pixels_are_left_out(tmp_path: Path):
    pictures = capture(tmp_path)
    store = opened(tmp_path, DatasetConfig(alpha="mask"))
    for image_id, picture in zip(store.image_ids, pictures, strict=True):
        opaque = picture[..., 3] >= 128
        assert np.array_equal(store.valid(image_id), opaque)
        assert np.array_equal(store.valid(image_id, 1), opaque.reshape(16, 2, 20, 2).all(axis=(1, 3)))
        assert np.array_equal(store.rgb(image_id)[opaque], picture[..., :3][opaque])


def test_where_nothing_is_chosen_it_is_asked_for(tmp_path: Path):
    capture(tmp_path)
    with pytest.raises(UserError, match=ASKED):
        read_scene(tmp_path, DatasetConfig())
    assert read_scene(tmp_path, DatasetConfig(white_background=True)).images[0].alpha == "white"


def test_a_last_picture_that_is_transparent_is_found_when_it_is_decoded(tmp_path: Path):
    capture(tmp_path, alpha=np.full((32, 40), 255))
    assert opened(tmp_path, DatasetConfig()).level(0).valid is None
    Image.fromarray(rgba(9)).save(tmp_path / "images/0003.png")
    scene = read_scene(tmp_path, DatasetConfig())
    with pytest.raises(UserError, match=ASKED):
        ImageStore.open(scene, 1, tmp_path / "store", progress=False)


def test_another_choice_makes_the_store_anew(tmp_path: Path):
    capture(tmp_path, alpha=np.zeros((32, 40)))
    for ground, value in (("white", 255), ("black", 0), ("white", 255)):
        store = opened(tmp_path, DatasetConfig(alpha=ground))
        assert (store.rgb(store.image_ids[0]) == value).all()


def test_opaque_captures_are_not_asked_and_keep_their_store(tmp_path: Path):
    transforms_capture(tmp_path)
    opened(tmp_path, DatasetConfig())
    made = (tmp_path / "store/manifest.json").stat().st_mtime_ns
    opened(tmp_path, DatasetConfig(alpha="white"))
    assert (tmp_path / "store/manifest.json").stat().st_mtime_ns == made


@pytest.mark.parametrize("mode", ["LA", "P", "RGBA"])
def test_every_kind_of_transparency(tmp_path: Path, mode: str):
    picture = Image.fromarray(rgba(1, alpha=np.where(np.arange(40) < 20, 0, 255)[None].repeat(32, 0)))
    if mode == "P":
        indexed = picture.convert("RGB").quantize(16)
        indexed.save(tmp_path / "p.png", transparency=indexed.getpixel((0, 0)))
    else:
        picture.convert(mode).save(tmp_path / "p.png")
    assert np.asarray(read_picture(tmp_path / "p.png", AS_STORED, "white")[0])[0, 0].tolist() == [255] * 3
    turned, opaque = read_picture(tmp_path / "p.png", Orientation(6, is_turned=True), "mask")
    assert opaque is not None
    assert turned.size == (32, 40)
    assert opaque.shape == (40, 32)
    with pytest.raises(UserError, match=ASKED):
        read_picture(tmp_path / "p.png", AS_STORED, "unchosen")


def test_rays_end_in_what_pictures_end_in():
    assert load_config(None, ["dataset.alpha=white"]).white_background
    for key in ("dataset.white_background", "block_nerf.white_background"):
        with pytest.raises(UserError, match="dataset.alpha black puts pictures on black"):
            load_config(None, ["dataset.alpha=black", f"{key}=true"])
    assert load_config(None, ["dataset.alpha=mask", "dataset.white_background=true"]).dataset.ground == "mask"


@pytest.mark.parametrize("ground", ["white", "black"])
def test_photographs_that_end_in_the_other_ground_are_said(tmp_path: Path, caplog, ground):
    alpha = np.zeros((32, 40), np.uint8)
    alpha[8:24, 8:32] = 255
    capture(tmp_path, alpha)
    store = opened(tmp_path, DatasetConfig(alpha=ground))
    say_other_ground(store, white_background=ground == "white")
    assert "Rays end in" not in caplog.text
    say_other_ground(store, white_background=ground != "white")
    assert f"100 % of the pixels at the edges of photographs are {ground}" in caplog.text


def test_200_megapixels_are_read_and_more_than_can_be_held_are_refused_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    Image.new("1", (16320, 12240)).save(tmp_path / "large.png")
    with opened_picture(tmp_path / "large.png") as image:
        assert image.size == (16320, 12240)  # beyond Pillow's own limit
    transforms_capture(tmp_path)
    monkeypatch.setattr("blocknerf.scene.photographs.MOST_PIXELS", 40 * 30 - 1)
    with pytest.raises(UserError, match=r"it has 40 x 30 pixels\. At most .* make it smaller"):
        read_scene(tmp_path, DatasetConfig())
