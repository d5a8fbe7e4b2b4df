"""Frames to files: PNG pictures and an mp4 video. Input frames are floats in [0, 1]."""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace
from jaxtyping import Float, UInt8
from torch import Tensor

from blocknerf.city.pictures import to_bytes, write_png
from blocknerf.core import disk
from blocknerf.core.errors import UserError
from blocknerf.core.files import write_by_library
from blocknerf.core.lock import locked_file
from blocknerf.core.own_png import is_own_png

BT709 = 1
"""FFmpeg's number for BT.709 as primaries and as transfer curve."""


def check_video(video: Path, fps: int) -> None:
    """Raises UserError, before hours of rendering, for another ending than .mp4, a rate that is not positive, or a
    folder with frames that blocknerf did not make."""
    if video.suffix.lower() != ".mp4":
        raise UserError(f"The video {video} must end in .mp4; its frames go into a folder of the same name beside it.")
    if fps < 1:
        raise UserError(f"A video has at least 1 frame a second, and --fps is {fps}.")
    foreign = [frame for frame in _frames_in(video) if not is_own_png(frame)]
    if foreign:
        raise UserError(
            f"Frames go into {video.with_suffix('')}, which holds {len(foreign)} pictures called frame_*.png that this "
            f"program has not made, as {foreign[0].name}. Move them away, or give another name with --out."
        )


def _frames_in(video: Path) -> list[Path]:
    return sorted(video.with_suffix("").glob("frame_*.png"))


def write_frames(video: Path, frames: Iterable[Float[Tensor, "h w 3"]], fps: int) -> list[Path]:
    """Writes `video` (mp4), and every frame as PNG into the folder beside it that has its name without the ending.

    PNG files appear as frames arrive, the video when it is complete; leftover frames of an earlier video are removed.
    Returns the paths of the PNG files. Raises UserError as `check_video` does, and without any frame.
    """
    check_video(video, fps)
    folder, pictures = video.with_suffix(""), []

    def saved() -> Iterator[UInt8[np.ndarray, "h w 3"]]:
        for number, frame in enumerate(frames):
            pixels = to_bytes(frame)
            pictures.append(folder / f"frame_{number:05d}.png")
            write_png(pictures[-1], pixels)
            yield pixels

    with locked_file(video, f"The video {video} is being rendered") as held:
        held.sweep(folder)
        write_by_library(video, lambda temporary: _encode(temporary, saved(), fps))
        for old in filter(is_own_png, set(_frames_in(video)) - set(pictures)):
            disk.unlink(old)
    return pictures


def _encode(path: Path, frames: Iterable[UInt8[np.ndarray, "h w 3"]], fps: int) -> None:
    """H.264 if this PyAV has x264, else MPEG-4; yuv420p, which every player reads, in BT.709 colours."""
    stream: Any = None
    with av.open(str(path), "w", format="mp4") as container:
        for pixels in map(_padded_to_even, frames):
            if stream is None:
                stream = _stream(container, pixels.shape[1], pixels.shape[0], fps)
            picture = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(
                format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
            )
            container.mux(stream.encode(picture))
        if stream is None:
            raise UserError("There is no frame to make a video of.")
        container.mux(stream.encode(None))


def _stream(container: Any, width: int, height: int, fps: int) -> Any:
    has_x264 = "libx264" in av.codecs_available
    stream = container.add_stream("libx264" if has_x264 else "mpeg4", rate=Fraction(fps))
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    context = stream.codec_context
    context.options = {"crf": "18"} if has_x264 else {"qscale": "3"}
    context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
    context.color_primaries, context.color_trc = BT709, BT709
    return stream


def _padded_to_even(pixels: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h2 w2 3"]:
    """yuv420p halves the colour's resolution, so both sides must be even: the last row or column is repeated."""
    height, width = pixels.shape[:2]
    return np.ascontiguousarray(np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge"))
