"""Frames on disk, and videos that decode to what was put in."""

import av
import numpy as np
import pytest
import torch
from PIL import Image

from blocknerf.core.errors import UserError
from blocknerf.export.video import write_frames


def decoded(path) -> tuple[list[np.ndarray], av.VideoStream]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        return frames, stream


def flat(*rgb: float, height: int = 36, width: int = 64) -> torch.Tensor:
    return torch.tensor(rgb).expand(height, width, 3)


COLOURS = [(0.8, 0.1, 0.1), (0.1, 0.7, 0.2), (0.2, 0.3, 0.9), (0.5, 0.5, 0.5), (1.5, 1.0, -1.0)]


def test_pictures_are_exact_and_the_video_nearly_so(tmp_path):
    video = tmp_path / "flight.mp4"
    pictures = write_frames(video, (flat(*colour) for colour in COLOURS), 12)
    assert [path.name for path in pictures] == [f"frame_{k:05d}.png" for k in range(5)]
    frames, stream = decoded(video)
    assert len(frames) == 5
    assert stream.average_rate == 12
    assert stream.codec_context.pix_fmt == "yuv420p"
    for colour, path, frame in zip(COLOURS, pictures, frames, strict=True):
        expected = np.round(np.clip(colour, 0, 1) * np.array(255)).astype(int)
        assert (np.asarray(Image.open(path)) == expected).all()
        assert np.abs(frame.astype(int) - expected).max() <= 6


@pytest.mark.parametrize(("height", "width"), [(35, 64), (36, 63), (35, 63)])
def test_odd_sides_are_padded_in_the_video_and_kept_in_the_pictures(tmp_path, height, width):
    pictures = write_frames(tmp_path / "odd.mp4", [flat(0.3, 0.6, 0.2, height=height, width=width)] * 3, 24)
    assert np.asarray(Image.open(pictures[0])).shape == (height, width, 3)
    frames, _ = decoded(tmp_path / "odd.mp4")
    assert frames[0].shape == (height + height % 2, width + width % 2, 3)
    assert np.abs(frames[0][-1, -1].astype(int) - [76, 153, 51]).max() <= 6


def test_without_x264_it_is_mpeg4(tmp_path, monkeypatch):
    monkeypatch.setattr(av, "codecs_available", {"mpeg4"})
    write_frames(tmp_path / "old.mp4", [flat(0.3, 0.6, 0.2)] * 3, 24)
    frames, stream = decoded(tmp_path / "old.mp4")
    assert stream.codec_context.name == "mpeg4"
    assert np.abs(frames[0].astype(int) - [76, 153, 51]).max() <= 8


def test_a_shorter_path_leaves_no_frames_of_a_longer_one(tmp_path):
    for count in (5, 2):
        write_frames(tmp_path / "a.mp4", [flat(0.1, 0.2, 0.3)] * count, 24)
    assert len(list((tmp_path / "a").iterdir())) == 2


def test_what_a_killed_process_left_beside_frames_is_removed(tmp_path):
    left = tmp_path / "flight" / ".frame_00001.png.host.123.tmp"
    left.parent.mkdir()
    left.write_bytes(b"")
    write_frames(tmp_path / "flight.mp4", [flat(0.2, 0.4, 0.6)] * 2, 24)
    assert sorted(path.name for path in left.parent.iterdir()) == ["frame_00000.png", "frame_00001.png"]


def test_an_old_video_stays_when_rendering_fails(tmp_path):
    video = tmp_path / "a.mp4"
    write_frames(video, [flat(0.1, 0.2, 0.3)] * 2, 24)
    before = video.read_bytes()

    def failing():
        yield flat(0.5, 0.5, 0.5)
        raise UserError("the block file is damaged")

    with pytest.raises(UserError, match="the block file is damaged"):
        write_frames(video, failing(), 24)
    assert video.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "a.mp4"]


def test_what_cannot_be_a_video_is_said(tmp_path):
    with pytest.raises(UserError, match=r"a\.avi must end in \.mp4"):
        write_frames(tmp_path / "a.avi", [], 24)
    with pytest.raises(UserError, match="--fps is 0"):
        write_frames(tmp_path / "a.mp4", [], 0)
    with pytest.raises(UserError, match="no frame to make a video of"):
        write_frames(tmp_path / "a.mp4", [], 24)
