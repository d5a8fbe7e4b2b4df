"""The sharpest frame of every interval of a video."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from jaxtyping import UInt8
from PIL import Image

from blocknerf.core.errors import UserError
from blocknerf.core.files import write_picture
from blocknerf.core.logging import log

JUDGED_WIDTH = 480
_MISSING_S = 1.0
_ENDED_EARLY = "%s is cut off or damaged: it decodes to %.1f s%s. What decodes is used."


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame that was kept; `time_s` counts from the beginning of the video, `number` from the first kept frame."""

    number: int
    time_s: float
    rgb: UInt8[np.ndarray, "h w 3"]


def sharpest_frames(path: Path, interval_s: float, on_time: Callable[[float], None]) -> Iterator[Frame]:
    """The sharpest frame of each interval, upright; `on_time` gets the decoding progress in seconds.

    A video that ends early is used as far as it decodes, with a warning. Raises UserError if nothing decodes.
    """
    best: tuple[float, float, av.VideoFrame] | None = None
    slot, kept = 0, 0
    for time_s, frame in _decoded(path):
        on_time(time_s)
        if best is not None and int(time_s / interval_s) > slot:
            yield Frame(kept, best[1], _upright(best[2]))
            kept, best = kept + 1, None
        slot = int(time_s / interval_s)
        sharpness = sharpness_of(_small_gray(frame))
        if best is None or sharpness > best[0]:
            best = (sharpness, time_s, frame)
    if best is None:
        raise UserError(f"Nothing of the video {path} can be decoded. Copy it from the camera again, or remove it.")
    yield Frame(kept, best[1], _upright(best[2]))


def sharpness_of(gray: UInt8[np.ndarray, "h w"]) -> float:
    """Variance of the Laplacian (Pech-Pacheco et al. 2000): blur of motion or focus lowers it."""
    grey = gray.astype(np.float32)
    middle = grey[1:-1, 1:-1]
    laplacian = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * middle
    return float(laplacian.var())


def duration_of(path: Path) -> float:
    """Duration in the header, in seconds; 0 without one."""
    try:
        with av.open(str(path)) as container:
            return _promised_s(container)
    except FFmpegError:
        return 0.0


def _decoded(path: Path) -> Iterator[tuple[float, av.VideoFrame]]:
    """(seconds, frame) as far as the file can be read; warns if it ends early."""
    promised_s, reached_s, problem = 0.0, 0.0, ""
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise UserError(f"{path} has no picture in it, only {len(container.streams)} other streams. Remove it.")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            promised_s = _promised_s(container)
            first_s: float | None = None
            for frame in container.decode(stream):
                time_s = reached_s if frame.time is None else float(frame.time)
                first_s = time_s if first_s is None else first_s
                reached_s = max(reached_s, time_s - first_s)
                if not frame.is_corrupt:
                    yield reached_s, frame
    except FFmpegError as error:
        problem = str(error.strerror or error)
    if reached_s > 0 and (problem or promised_s - reached_s > max(_MISSING_S, 0.05 * promised_s)):
        log.warning(_ENDED_EARLY, path, reached_s, f" of {promised_s:.1f} s" if promised_s else "")


def _promised_s(container: InputContainer) -> float:
    return 0.0 if container.duration is None else container.duration / av.time_base


def _small_gray(frame: av.VideoFrame) -> UInt8[np.ndarray, "h w"]:
    width = min(frame.width, JUDGED_WIDTH)
    height = max(4, round(frame.height * width / frame.width))
    return frame.reformat(width=width, height=height, format="gray").to_ndarray()


def _upright(frame: av.VideoFrame) -> UInt8[np.ndarray, "h w 3"]:
    """The pixels, turned by the recorder's metadata: telephones store portrait videos on their side."""
    quarter_turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), quarter_turns))


def write_jpeg(path: Path, rgb: UInt8[np.ndarray, "h w 3"]) -> None:
    write_picture(path, Image.fromarray(rgb), "JPEG", quality=95, subsampling=0)
