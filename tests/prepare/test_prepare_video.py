"""Frames of videos: the sharpest ones, upright, in their own colours, and as many as decode."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image, ImageFilter

from blocknerf.core.errors import UserError
from blocknerf.prepare.gather import find_sources
from blocknerf.prepare.images import bring_images
from blocknerf.prepare.video import sharpest_frames, sharpness_of

FPS, FRAMES = 10, 30
SHARP = {3, 12, 27}
WIDTH, HEIGHT = 160, 120


def texture(seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    small = rng.integers(40, 215, (HEIGHT // 4, WIDTH // 4, 3), np.uint8)
    return Image.fromarray(small).resize((WIDTH, HEIGHT), Image.Resampling.NEAREST)


def frames(flat: tuple[int, int, int] | None = None) -> list[np.ndarray]:
    """Blurred but for those in SHARP; or all of one colour."""
    if flat is not None:
        return [np.full((HEIGHT, WIDTH, 3), flat, np.uint8)] * FRAMES
    blur = ImageFilter.GaussianBlur(3)
    return [np.asarray(texture(n) if n in SHARP else texture(n).filter(blur)) for n in range(FRAMES)]


def write_video(path: Path, pictures: list[np.ndarray]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=Fraction(FPS))
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.options = {"qscale": "2"}
        for pixels in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def taken(path: Path, interval_s: float = 1.0) -> list:
    return list(sharpest_frames(path, interval_s, lambda _: None))


def test_the_sharpest_frame_of_each_second_is_taken(tmp_path):
    found = taken(write_video(tmp_path / "drive.mp4", frames()))
    assert [frame.number for frame in found] == [0, 1, 2]
    assert [round(frame.time_s * FPS) for frame in found] == sorted(SHARP)
    assert all(frame.rgb.shape == (HEIGHT, WIDTH, 3) for frame in found)


def test_sharpness_falls_with_blur():
    gray = texture(0).convert("L")
    figures = [sharpness_of(np.asarray(gray.filter(ImageFilter.GaussianBlur(radius)))) for radius in (0, 1, 2, 4)]
    assert figures == sorted(figures, reverse=True)
    assert sharpness_of(np.full((9, 9), 80, np.uint8)) == 0


@pytest.mark.parametrize("colour", [(200, 60, 40), (30, 160, 80), (128, 128, 128)])
def test_colours_stay(tmp_path, colour):
    (first, *_) = taken(write_video(tmp_path / "flat.mp4", frames(colour)))
    np.testing.assert_allclose(first.rgb.mean(axis=(0, 1)), colour, atol=4)


def test_a_video_that_is_cut_off_is_used_as_far_as_it_decodes(tmp_path, caplog):
    whole = write_video(tmp_path / "whole.mkv", frames())
    content = whole.read_bytes()
    half = tmp_path / "half.mkv"
    half.write_bytes(content[: len(content) // 2])
    found = taken(half)
    assert 1 <= len(found) < 3
    assert "half.mkv is cut off or damaged: it decodes to" in caplog.text
    assert "of 3.0 s" in caplog.text


@pytest.mark.parametrize("content", [b"", b"not a video at all" * 100, None])
def test_a_video_of_which_nothing_decodes_is_an_error(tmp_path, content):
    """None: an mp4 whose index, at its end, is cut off."""
    path = tmp_path / "broken.mp4"
    if content is None:
        content = write_video(tmp_path / "whole.mp4", frames()).read_bytes()[:-3000]
    path.write_bytes(content)
    with pytest.raises(UserError, match="Nothing of the video .*broken.mp4 can be"):
        taken(path)


def test_several_videos_are_several_folders(tmp_path):
    for name in ("one.mp4", "sub/two.mp4"):
        write_video(tmp_path / "card" / name, frames())
    sources = find_sources(tmp_path / "card", tmp_path / "out", None)
    shots = bring_images(sources, tmp_path / "out", 1.0, each_its_camera=False)
    assert [shot.name for shot in shots][::3] == ["one.mp4/frame_000000.jpg", "sub/two.mp4/frame_000000.jpg"]
    assert len({shot.camera for shot in shots}) == 2
    assert all((tmp_path / "out/images" / shot.name).is_file() for shot in shots)


def test_one_video_needs_no_folder_and_a_longer_interval_leaves_nothing_behind(tmp_path):
    video = write_video(tmp_path / "drive.mp4", frames())
    sources = find_sources(video, tmp_path / "out", None)
    assert len(bring_images(sources, tmp_path / "out", 0.5, each_its_camera=False)) == 6
    shots = bring_images(sources, tmp_path / "out", 1.5, each_its_camera=False)
    assert [shot.name for shot in shots] == ["frame_000000.jpg", "frame_000001.jpg"]
    assert len(list((tmp_path / "out/images").iterdir())) == 2


LUMA_WEIGHTS = {"ITU709": (0.2126, 0.0722), "ITU601": (0.299, 0.114)}  # of red and of blue
PATCHES = ((200, 40, 40), (40, 180, 60), (50, 60, 210), (230, 220, 40), (128, 128, 128))


def yuv_of(rgb: tuple[int, int, int], matrix: str, is_full_range: bool) -> tuple[int, int, int]:
    """By the definition of ITU-R BT.709 or BT.601, 8 bits."""
    red, green, blue = (value / 255 for value in rgb)
    of_red, of_blue = LUMA_WEIGHTS[matrix]
    luma = of_red * red + (1 - of_red - of_blue) * green + of_blue * blue
    cb, cr = (blue - luma) / (2 * (1 - of_blue)), (red - luma) / (2 * (1 - of_red))
    scale = (255, 255, 0) if is_full_range else (219, 224, 16)
    return round(scale[0] * luma + scale[2]), round(scale[1] * cb + 128), round(scale[1] * cr + 128)


def write_patches(path: Path, matrix: str, is_full_range: bool) -> None:
    """Stripes of known colours, 32 pixels wide, whose file says which matrix and range they are in."""
    planes = np.repeat(np.array([yuv_of(rgb, matrix, is_full_range) for rgb in PATCHES], np.uint8), 32, axis=0)
    frame = av.VideoFrame(len(planes), 64, "yuv444p")
    for plane, values in zip(frame.planes, planes.T, strict=True):
        row = np.zeros(plane.line_size, np.uint8)
        row[: len(values)] = values
        plane.update(np.tile(row, 64).tobytes())
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=Fraction(FPS))
        stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, frame.format.name
        colours, range_ = av.video.reformatter.Colorspace, av.video.reformatter.ColorRange
        stream.codec_context.colorspace = frame.colorspace = colours[matrix].value
        stream.codec_context.color_range = frame.color_range = (range_.JPEG if is_full_range else range_.MPEG).value
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.mark.parametrize("is_full_range", [False, True])
@pytest.mark.parametrize("matrix", LUMA_WEIGHTS)
def test_colours_are_those_of_the_matrix_and_range_that_the_file_names(tmp_path, matrix, is_full_range):
    write_patches(tmp_path / "patches.mkv", matrix, is_full_range)
    (frame,) = taken(tmp_path / "patches.mkv")
    middles = frame.rgb[32, 16::32].astype(int)
    np.testing.assert_allclose(middles, PATCHES, atol=3)
