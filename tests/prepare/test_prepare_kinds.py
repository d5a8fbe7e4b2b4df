"""Photographs of every kind come into the scene as they are meant to be seen, under names that everything can carry."""

import io
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageOps, features

from blocknerf.core.names import portable_name
from blocknerf.prepare.colours import in_srgb
from blocknerf.prepare.gather import PHOTOGRAPHS, find_sources, free_name, scene_names
from blocknerf.prepare.images import bring_images
from blocknerf.prepare.pictures import lay_out_pictures
from blocknerf.scene.photographs import read_rgb

WIDTH, HEIGHT = 72, 48
LOSSY = {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".jp2", ".avif"}


def picture(seed: int = 0, mode: str = "RGB") -> Image.Image:
    """Soft, so that what JPEG takes from it is little."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(20, 235, (6, 9, 3), np.uint8))
    return small.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC).convert(mode)


def with_orientation(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    exif[ExifTags.Base.Model] = "Made Up"
    return exif


def brought(card: Path, out: Path) -> list:
    return bring_images(find_sources(card, out, None), out, 1.0, each_its_camera=False)


def decibel(one: Image.Image, other: Image.Image) -> float:
    assert one.size == other.size
    squared = (np.asarray(one, float) - np.asarray(other, float)) ** 2
    return float(10 * np.log10(255**2 / max(squared.mean(), 1e-9)))


def upright(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return ImageOps.exif_transpose(image).convert("RGB")


@pytest.mark.parametrize("ending", PHOTOGRAPHS)
def test_every_ending_that_is_listed_is_read(tmp_path, ending):
    kinds = {".jfif": "JPEG", ".jpe": "JPEG", ".apng": "PNG"}
    for n in range(2):
        kind = kinds.get(ending) or Image.registered_extensions()[ending]
        mode = "L" if ending == ".pgm" else "RGB"
        if not (ending != ".avif" or features.check("avif")):
            pytest.skip("this Pillow was built without AVIF")
        (tmp_path / "card").mkdir(exist_ok=True)
        picture(n, mode).save(tmp_path / f"card/{n}{ending}", kind)
    shots = brought(tmp_path / "card", tmp_path / "out")
    assert [shot.name for shot in shots] == [f"0{ending}", f"1{ending}"]
    plain = lay_out_pictures(shots, tmp_path / "out/images", tmp_path / "pictures")
    for shot in shots:
        inside = tmp_path / "pictures" / plain[shot.name]
        assert inside.suffix in {".jpg", ".png", ".tif", ".bmp"}
        scene = read_rgb(tmp_path / "out/images" / shot.name)
        np.testing.assert_array_equal(np.asarray(read_rgb(inside)), np.asarray(scene))


@pytest.mark.parametrize("orientation", [1, 2, 3, 4, 5, 6, 7, 8])
@pytest.mark.parametrize("kind", ["JPEG", "MPO", "PNG", "WEBP", "TIFF", "AVIF"])
def test_pictures_are_turned_at_no_cost_to_be_seen(tmp_path, kind, orientation):
    """The content decides the kind, not the ending: all are called .jpg."""
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow was built without AVIF")
    (tmp_path / "card").mkdir()
    more = {
        "MPO": {"save_all": True, "append_images": [picture(5)], "quality": 95, "subsampling": 0},
        "JPEG": {"quality": 95, "subsampling": 0},
        "WEBP": {"lossless": True},
        "AVIF": {"quality": 95},
    }
    for n in range(2):
        exif = with_orientation(orientation)
        picture(n).save(tmp_path / f"card/{n}.jpg", kind, exif=exif, **more.get(kind, {}))
    for shot in brought(tmp_path / "card", tmp_path / "out"):
        original, stored = tmp_path / f"card/{shot.name[0]}.jpg", tmp_path / "out/images" / shot.name
        with Image.open(stored) as image:
            assert image.getexif().get(ExifTags.Base.Orientation, 1) == 1
            assert image.size == (shot.width, shot.height)
            if orientation != 1:
                assert image.format == {"MPO": "JPEG", "AVIF": "JPEG"}.get(kind, kind)
                if image.format == "JPEG":
                    assert max(max(table) for table in image.quantization.values()) <= 7  # quality 97
                    assert all(layer[1:3] == (1, 1) for layer in image.layer)  # type: ignore[attr-defined]
        assert decibel(read_rgb(stored), upright(original)) > (42 if kind in ("JPEG", "MPO", "AVIF") else 80)
        if orientation == 1:
            assert stored.samefile(original)


@pytest.mark.parametrize("mode", ["L", "P", "1", "RGBA", "LA", "CMYK", "I;16", "PA"])
def test_colmap_is_shown_what_the_reader_sees(tmp_path, mode):
    kind = {"CMYK": "JPEG", "PA": "TIFF", "1": "TIFF"}.get(mode, "PNG")
    (tmp_path / "card").mkdir()
    for n in range(2):
        if mode == "I;16":
            wide = Image.fromarray(np.asarray(picture(n, "L"), np.uint16) * 257)
            wide.save(tmp_path / f"card/{n}.png", kind)
        elif mode == "PA":
            picture(n).convert("P").convert("PA").convert("RGBA").save(tmp_path / f"card/{n}.png", kind)
        else:
            picture(n).convert(mode).save(tmp_path / f"card/{n}.png", kind)
    shots = brought(tmp_path / "card", tmp_path / "out")
    plain = lay_out_pictures(shots, tmp_path / "out/images", tmp_path / "pictures")
    for shot in shots:
        with Image.open(tmp_path / "pictures" / plain[shot.name]) as inside:
            assert inside.mode in ("RGB", "L")
            seen = np.asarray(inside.convert("RGB"))
        np.testing.assert_array_equal(seen, np.asarray(read_rgb(tmp_path / "out/images" / shot.name)))


def test_what_is_no_picture_is_left_out_for_its_true_reason(tmp_path, caplog):
    card = tmp_path / "card"
    card.mkdir()
    for n in range(2):
        picture(n).save(card / f"{n}.png")
    whole = io.BytesIO()
    picture(2).save(whole, "JPEG", quality=95)
    (card / "cut.jpg").write_bytes(whole.getvalue()[:-400])
    (card / "empty.jpg").write_bytes(b"")
    (card / "film.jpg").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(40))
    (card / "telephone.jpg").write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    (card / "text.png").write_text("no picture at all")
    Image.fromarray(np.zeros((9, 9), np.float32)).save(card / "float.tif")
    (card / "gone.jpg").symlink_to("nowhere")
    (card / "folder.jpg").mkdir()
    picture(3).save(card / ".hidden.png")
    assert [shot.name for shot in brought(card, tmp_path / "out")] == ["0.png", "1.png"]
    text = " ".join(caplog.text.split())
    pieces = (
        "is empty: empty.jpg",
        "is a video by its content: film.jpg",
        "pillow-heif",
        "truncated",
        "floating point",
        "of no kind that is known): text.png",
        "1 names in",
        "6 of 8 photographs",
    )
    for piece in pieces:
        assert piece in text, piece


def test_of_several_pictures_in_a_file_the_first_is_taken_and_told(tmp_path, caplog):
    (tmp_path / "card").mkdir()
    for n, name in enumerate(("a.gif", "b.png", "c.tif", "d.webp")):
        more = {"lossless": True} if name == "d.webp" else {}
        picture(n).save(tmp_path / "card" / name, save_all=True, append_images=[picture(n + 9)], **more)
    shots = brought(tmp_path / "card", tmp_path / "out")
    assert len(shots) == 4
    assert "of each of 4 files that hold several" in " ".join(caplog.text.split())
    assert decibel(read_rgb(tmp_path / "out/images/c.tif"), picture(2)) > 80


# --- colours ----------------------------------------------------------------------------------------------------------

DISPLAY_P3 = ((0.51512, 0.2412, -0.00105), (0.29198, 0.69225, 0.04189), (0.1571, 0.06657, 0.78407))
SRGB = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.7141))


def profile_of(primaries: tuple[tuple[float, ...], ...], gamma: float) -> bytes:
    """An ICC profile of three primaries (XYZ at D50) and one power, as the standard wants it."""

    def fixed(*values: float) -> bytes:
        return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))

    def text(kind: bytes, words: bytes) -> bytes:
        if kind == b"text":
            return kind + bytes(4) + words + b"\0"
        return kind + bytes(4) + struct.pack(">I", len(words) + 1) + words + b"\0" + bytes(78)

    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)
    tags = {
        b"desc": text(b"desc", b"made up"),
        b"cprt": text(b"text", b"none"),
        b"wtpt": b"XYZ " + bytes(4) + fixed(0.9642, 1.0, 0.8249),
    }
    for name, primary in zip(b"rgb", primaries, strict=True):
        tags[bytes([name]) + b"XYZ"] = b"XYZ " + bytes(4) + fixed(*primary)
        tags[bytes([name]) + b"TRC"] = curve
    table, body = struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        table += name + struct.pack(">II", 132 + 12 * len(tags) + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    head = bytearray(128)
    head[8:12], head[12:24], head[36:40] = b"\x02\x40\0\0", b"mntrRGB XYZ ", b"acsp"
    head[68:80] = fixed(0.9642, 1.0, 0.8249)
    content = bytes(head) + table + body
    return struct.pack(">I", len(content)) + content[4:]


def test_photographs_in_other_colours_come_in_srgb(tmp_path, caplog):
    """Display P3 holds more than sRGB: the same numbers mean stronger colours, and gray stays gray."""
    (tmp_path / "card").mkdir()
    Image.new("RGB", (32, 32), (200, 100, 100)).save(
        tmp_path / "card/a.png", icc_profile=profile_of(DISPLAY_P3, 2.2), exif=with_orientation(6)
    )
    Image.new("RGB", (32, 32), (120, 120, 120)).save(tmp_path / "card/b.png", icc_profile=profile_of(DISPLAY_P3, 2.2))
    Image.new("RGB", (32, 32), (200, 100, 100)).save(tmp_path / "card/c.png", icc_profile=b"not a profile")
    caplog.set_level("INFO")
    brought(tmp_path / "card", tmp_path / "out")
    red, gray, stored = (np.asarray(read_rgb(tmp_path / f"out/images/{name}.png"))[3, 3].tolist() for name in "abc")
    assert red[0] >= 208
    assert red[1] <= 97
    assert max(abs(channel - 120) for channel in gray) <= 3
    assert stored == [200, 100, 100]
    text = " ".join(caplog.text.split())
    assert "2 photographs are written anew in sRGB; they were in made up" in text
    assert "cannot be read, as of c.png: they are taken as sRGB" in text
    with Image.open(tmp_path / "out/images/a.png") as image:
        assert "icc_profile" not in image.info
        assert image.getexif()[ExifTags.Base.Model] == "Made Up"


def test_a_profile_that_says_srgb_changes_nothing():
    from PIL import ImageCms

    image = picture()
    image.info["icc_profile"] = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert in_srgb(image) is None
    image.info["icc_profile"] = profile_of(SRGB, 2.2)
    assert in_srgb(image) is None
    image.info["icc_profile"] = profile_of(SRGB, 1.8)
    assert in_srgb(image) is not None


# --- names ------------------------------------------------------------------------------------------------------------


@given(st.sets(st.text(st.characters(exclude_characters="/\0", codec=None), min_size=1, max_size=8), max_size=12))
def test_any_names_become_names_that_every_format_carries(names):
    root = Path("/card")
    paths = [root / f"{name}.jpg" for name in sorted(names)]
    found = scene_names(root, paths)
    assert len(set(found.values())) == len(paths)
    for path, name in found.items():
        name.encode("utf-8")
        assert not any(ord(letter) < 32 or letter in "\\\x7f" for letter in name)
        assert not Path(name).is_absolute()
        assert ".." not in Path(name).parts
        name = path.name
        if portable_name(name) == name:
            assert name == name


def test_a_free_name_keeps_its_ending():
    assert free_name("a/b.jpg", set()) == "a/b.jpg"
    assert free_name("a/b.jpg", {"a/b.jpg", "a/b_2.jpg"}) == "a/b_3.jpg"


def test_names_that_are_no_text_are_changed_and_told(tmp_path, caplog):
    (tmp_path / "card").mkdir()
    for n, name in enumerate((b"lat\xe9in.png", b"new\nline.png", b"-rf.png", b"a b #%20 'q'.png")):
        picture(n).save(os.path.join(os.fsencode(tmp_path / "card"), name))
    names = [shot.name for shot in brought(tmp_path / "card", tmp_path / "out")]
    assert names == ["-rf.png", "a b #%20 'q'.png", "lat_in.png", "new_line.png"]
    assert "is called new_line.png in the scene" in " ".join(caplog.text.split())
