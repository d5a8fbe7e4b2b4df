"""A path recorded in the page: keyframes, the curve through them, and the file that `blocknerf render` reads."""

import math
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from blocknerf.core.errors import UserError
from blocknerf.core.files import write_json
from blocknerf.core.types import Appearance
from blocknerf.geometry.spline import interpolate_poses
from blocknerf.viewer.render_request import Viewpoint

FPS = 24
FRAME_HEIGHT_PX = 540
LEAST_S, MOST_S = 0.1, 600.0
MOST_KEYFRAMES = 1000
MOST_PATHS = 1000


@dataclass(frozen=True, slots=True)
class Keyframes:
    """Viewpoints in the order in which they were recorded; their fields of view and proportions are the first one's."""

    viewpoints: tuple[Viewpoint, ...] = ()

    def and_then(self, viewpoint: Viewpoint) -> "Keyframes":
        """Raises UserError if there are already MOST_KEYFRAMES."""
        if len(self.viewpoints) >= MOST_KEYFRAMES:
            raise UserError(f"A path has {MOST_KEYFRAMES} keyframes at most. Save this one, and begin another.")
        return Keyframes((*self.viewpoints, viewpoint))

    def without_last(self) -> "Keyframes":
        return Keyframes(self.viewpoints[:-1])

    def poses(self, count: int) -> Float[np.ndarray, "count 3 4"]:
        """The smooth curve through all of them. Raises UserError for fewer than two, or if they are all the same."""
        if len(self.viewpoints) < 2:
            raise UserError("A path needs two keyframes at least: move the camera and add another one.")
        return interpolate_poses(np.stack([viewpoint.world_from_cam for viewpoint in self.viewpoints]), count)


def path_file(out: Path, name: str) -> Path:
    """OUT/paths/NAME.json. Raises UserError for a name that is not a plain file name, or if there are too many."""
    if not re.fullmatch(r"\w[\w.-]{0,79}", name) or name in ("test", "interpolate"):
        raise UserError(f"The path's name {name!r} cannot be a file's: use letters, digits, '-' and '_'.")
    path = out / "paths" / f"{name}.json"
    if not path.exists() and sum(1 for _ in path.parent.glob("*.json")) >= MOST_PATHS:
        raise UserError(f"There are {MOST_PATHS} paths in {path.parent} already. Remove some that nobody needs.")
    return path


def write_path(path: Path, keyframes: Keyframes, seconds: float, drive: str | None) -> int:
    """Writes the camera path as `blocknerf render --path FILE.json` reads it; returns how many frames it has.

    `drive` is the one whose mean appearance the frames take; None: each has that of its neighbours. Raises UserError
    as `Keyframes.poses` does, and for `seconds` that are not above 0 and up to MOST_S.
    """
    if not 0 < seconds <= MOST_S:
        raise UserError(f"A path of {seconds:g} seconds cannot be saved: give more than 0 and up to {MOST_S:g}.")
    poses = keyframes.poses(max(2, round(seconds * FPS)))
    first = keyframes.viewpoints[0]
    settings = {} if drive is None else {"drive": drive}
    write_json(
        path,
        {
            "width": 2 * max(1, round(FRAME_HEIGHT_PX * first.aspect / 2)),
            "height": FRAME_HEIGHT_PX,
            "fov_deg": math.degrees(first.fov_y_rad),
            "frames": [{"world_from_cam": pose.tolist(), **settings} for pose in poses],
        },
    )
    return len(poses)


def render_command(out: Path, path: Path, appearance: Appearance, photographs: Sequence[str]) -> str:
    """The command that renders the path with this appearance; `photographs` names its one or two images."""
    words = ["blocknerf", "render", str(out), "--path", str(path), "--out", str(out / "renders" / f"{path.stem}.mp4")]
    if len(photographs) == 2:
        words += ["--appearance", ":".join(photographs), "--share", f"{appearance.share or 0:g}"]
    elif photographs:
        words += ["--image", photographs[0]]
    if appearance.exposure_stops:
        words += ["--exposure", f"{appearance.exposure_stops:g}"]
    return shlex.join(words)
