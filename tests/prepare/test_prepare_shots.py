"""What EXIF tells, and how photographs come into the scene."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from blocknerf.core.errors import UserError
from blocknerf.prepare.gather import find_sources
from blocknerf.prepare.images import bring_images
from blocknerf.prepare.shots import focal_of, position_of, shot_of, time_of
from tests.support.photo_walk import exif_of

GPS = ExifTags.GPS
TAGS = ExifTags.Base


def test_south_west_and_below_the_sea_are_negative():
    gps = {
        GPS.GPSLatitude: (12, 30, 36.0),
        GPS.GPSLatitudeRef: "S",
        GPS.GPSLongitude: (70, 0, 0.0),
        GPS.GPSLongitudeRef: "W",
        GPS.GPSAltitude: 5.5,
        GPS.GPSAltitudeRef: b"\x01",
    }
    assert position_of(gps) == (pytest.approx(-12.51), -70.0, -5.5)


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {GPS.GPSStatus: "V"},
        {GPS.GPSLatitude: (0, 0, 0), GPS.GPSLongitude: (0, 0, 0)},
        {GPS.GPSLatitude: (91, 0, 0)},
        {GPS.GPSLongitude: (float("nan"), 0, 0)},
        {GPS.GPSLatitude: (1, 2)},
        {GPS.GPSLatitude: "north"},
    ],
)
def test_no_fix_is_no_position(wrong):
    gps = {GPS.GPSLatitude: (12, 0, 0), GPS.GPSLongitude: (7, 0, 0), GPS.GPSAltitude: 5.0} | wrong
    gps = gps if wrong else {}
    assert position_of(gps) == (None, None, None)


def test_a_position_may_have_no_altitude():
    assert position_of({GPS.GPSLatitude: (12, 0, 0), GPS.GPSLongitude: (7, 0, 0)}) == (12.0, 7.0, None)


def test_the_clock_counts_fractions_and_knows_when_it_is_not_set():
    assert time_of({TAGS.DateTimeOriginal: "1970:01:02 00:00:01", TAGS.SubsecTimeOriginal: "25"}) == 86401.25
    for written in ("0000:00:00 00:00:00", "    :  :     :  :  ", "yesterday", None):
        assert time_of({TAGS.DateTimeOriginal: written}) is None


def test_focal_length_survives_a_photograph_made_smaller():
    """The same photograph at 4000 and at 1200 pixels: the focal length in pixels shrinks with it."""
    tags = {
        TAGS.FocalLength: 4.5,
        TAGS.FocalPlaneXResolution: 16393.44,
        TAGS.FocalPlaneResolutionUnit: 2,
        TAGS.ExifImageWidth: 4000,
        TAGS.ExifImageHeight: 3000,
    }
    assert focal_of(tags, 4000, 3000) == pytest.approx(4.5 / 25.4 * 16393.44)
    assert focal_of(tags, 1200, 900) == pytest.approx(0.3 * 4.5 / 25.4 * 16393.44)
    assert focal_of(tags, 900, 1200) == focal_of(tags, 1200, 900)
    assert focal_of({TAGS.FocalLengthIn35mmFilm: 50}, 3600, 2400) == pytest.approx(5000)
    assert focal_of({TAGS.FocalLengthIn35mmFilm: 0}, 3600, 2400) is None
    assert focal_of(tags | {TAGS.FocalPlaneXResolution: 1e9}, 1200, 900) is None


def photograph(path: Path, orientation: int = 1, seed: int = 0) -> np.ndarray:
    """Writes pixels as stored, which EXIF wants turned, and returns them as they should be seen."""
    pixels = np.random.default_rng(seed).integers(0, 255, (12, 16, 3), np.uint8)
    stored = Image.fromarray(pixels).resize((64, 48), Image.Resampling.NEAREST)
    exif = exif_of(np.zeros(2), 5.0, 0)
    exif[TAGS.Orientation] = orientation
    path.parent.mkdir(parents=True, exist_ok=True)
    stored.save(path, quality=95, subsampling=0, exif=exif.tobytes())
    turned = {1: stored, 6: stored.transpose(Image.Transpose.ROTATE_270)}[orientation]
    return np.asarray(turned)


@pytest.mark.parametrize("mask_is_upright", [False, True])
def test_a_portrait_photograph_comes_upright_with_its_mask_and_exif(tmp_path, mask_is_upright):
    seen = photograph(tmp_path / "card/images/a.jpg", orientation=6)
    photograph(tmp_path / "card/images/b.jpg", seed=1)
    hidden = np.full((48, 64), 255, np.uint8)
    hidden[:, :10] = 0  # the left of what is stored is the top of what is seen
    (tmp_path / "card/masks").mkdir()
    Image.fromarray(np.rot90(hidden, -1) if mask_is_upright else hidden).save(tmp_path / "card/masks/a.png")
    sources = find_sources(tmp_path / "card", tmp_path / "out", None)
    upright, other = bring_images(sources, tmp_path / "out", 1.0, each_its_camera=False)
    assert (upright.width, upright.height) == (48, 64)
    assert (other.width, other.height) == (64, 48)
    assert upright.camera != other.camera
    with Image.open(tmp_path / "out/images/a.jpg") as image:
        assert image.size == (48, 64)
        assert np.abs(np.asarray(image).astype(float) - seen).mean() < 6
        again = shot_of(image, "a.jpg", "")
    assert again == upright  # position, clock and camera are still in it, and no turn
    mask = np.asarray(Image.open(tmp_path / "out/masks/a.jpg.png"))
    assert mask.shape == (64, 48)
    assert (mask[:10] == 0).all()
    assert (mask[10:] == 255).all()


@pytest.mark.parametrize("place", ["masks/a.PNG", "masks/a.jpg", "masks/a.tif", "images/dynamic_mask_a.png"])
def test_a_mask_of_nearly_the_name_comes_as_the_reader_wants_it(tmp_path, place):
    photograph(tmp_path / "card/images/a.jpg")
    photograph(tmp_path / "card/images/b.jpg", seed=1)
    hidden = np.full((48, 64), 255, np.uint8)
    hidden[:, :10] = 0
    (tmp_path / "card/masks").mkdir()
    Image.fromarray(255 - hidden if "dynamic" in place else hidden).save(tmp_path / "card" / place)
    sources = find_sources(tmp_path / "card", tmp_path / "out", None)
    shots = bring_images(sources, tmp_path / "out", 1.0, each_its_camera=False)
    assert [shot.name for shot in shots] == ["a.jpg", "b.jpg"]
    with Image.open(tmp_path / "out/masks/a.jpg.png") as mask:
        assert mask.format == "PNG"
        assert np.array_equal(np.asarray(mask), hidden)
    assert not (tmp_path / "out/masks/b.jpg.png").exists()
    assert str(tmp_path / "card" / place) in {name for name, *_ in sources.stamp()}


def test_two_masks_of_nearly_the_name_are_refused(tmp_path):
    for name in "ab":
        photograph(tmp_path / f"card/images/{name}.jpg")
    (tmp_path / "card/masks").mkdir()
    for name in ("a.Png", "a.PNG"):
        Image.new("L", (64, 48)).save(tmp_path / "card/masks" / name, "PNG")
    with pytest.raises(UserError, match="is not clear: it may be"):
        bring_images(find_sources(tmp_path / "card", tmp_path / "out", None), tmp_path / "out", 1.0, False)


def test_names_are_relative_to_the_folder_that_all_share(tmp_path):
    for name in ("deep/down/monday/1.jpg", "deep/down/tuesday/1.jpg"):
        photograph(tmp_path / "card" / name)
    (tmp_path / "card/deep/down/notes.txt").write_text("not a picture")
    photograph(tmp_path / "card/masks/1.jpg")
    photograph(tmp_path / "card/.trash/1.jpg")
    photograph(tmp_path / "card/out/images/1.jpg")
    sources = find_sources(tmp_path / "card", tmp_path / "card/out", None)
    shots = bring_images(sources, tmp_path / "card/out", 1.0, each_its_camera=False)
    assert [(shot.name, shot.folder) for shot in shots] == [("monday/1.jpg", "monday"), ("tuesday/1.jpg", "tuesday")]
    assert len({shot.camera for shot in shots}) == 2
    each = bring_images(sources, tmp_path / "card/out", 1.0, each_its_camera=True)
    assert [shot.camera for shot in each] == ["monday/1.jpg", "tuesday/1.jpg"]


def test_unreadable_photographs_are_named_and_left_out(tmp_path, caplog):
    for n in range(3):
        photograph(tmp_path / f"card/{n}.jpg", seed=n)
    (tmp_path / "card/1.jpg").write_bytes(b"no picture")
    sources = find_sources(tmp_path / "card", tmp_path / "out", None)
    shots = bring_images(sources, tmp_path / "out", 1.0, each_its_camera=False)
    assert [shot.name for shot in shots] == ["0.jpg", "2.jpg"]
    assert "1 of 3 photographs are skipped" in caplog.text
    assert not (tmp_path / "out/images/1.jpg").exists()


def test_without_links_photographs_are_copied(tmp_path, monkeypatch):
    for n in range(2):
        photograph(tmp_path / f"card/{n}.jpg", seed=n)

    def refuse(*_):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    bring_images(find_sources(tmp_path / "card", tmp_path / "out", None), tmp_path / "out", 1.0, False)
    assert (tmp_path / "out/images/0.jpg").read_bytes() == (tmp_path / "card/0.jpg").read_bytes()
    assert not (tmp_path / "out/images/0.jpg").samefile(tmp_path / "card/0.jpg")
