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
    with pytest.raises(UserError, match=r"Nothing of the video .*broken.mp4 can be decoded"):
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
