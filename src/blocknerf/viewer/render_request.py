"""The request of one browser: everything that determines a picture, and nothing else."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from blocknerf.city.manifest import Manifest
from blocknerf.core.camera import Camera
from blocknerf.core.errors import UserError
from blocknerf.core.types import MEAN_APPEARANCE, Appearance

LEAST_FOV_RAD, LARGEST_FOV_RAD = math.radians(0.5), math.radians(175)
LARGEST_ASPECT = 32.0
"""Maximum ratio of a window's longer side to its shorter one."""

Kind = Literal["colour", "depth", "visibility", "weights", "seams"]
Blending = Literal["surface", "visibility", "distance", "nearest"]
ComparisonMode = Literal["blend", "side by side", "difference"]


@dataclass(frozen=True, slots=True, eq=False)
class Viewpoint:
    """A camera without distortion: its pose, its vertical field of view, its aspect (width / height)."""

    world_from_cam: Float[np.ndarray, "3 4"]  # OpenCV axes, metres
    fov_y_rad: float
    aspect: float

    def __post_init__(self) -> None:
        """Raises UserError for an invalid camera."""
        if not np.isfinite(self.world_from_cam).all():
            raise UserError("The camera stands nowhere: its position or rotation is not a number. Load the page anew.")
        if not LEAST_FOV_RAD <= self.fov_y_rad <= LARGEST_FOV_RAD:
            raise UserError(f"A field of view of {math.degrees(self.fov_y_rad):g} degrees cannot be drawn.")
        if not 1 / LARGEST_ASPECT <= self.aspect <= LARGEST_ASPECT:
            raise UserError(f"A window {self.aspect:g} times as wide as high cannot be drawn.")

    def camera(self, width: int) -> Camera:
        """The camera of a picture of this width."""
        height = max(1, round(width / self.aspect))
        focal_px = height / 2 / math.tan(self.fov_y_rad / 2)
        return Camera.pinhole(width, height, focal_px)

    def half(self) -> "Viewpoint":
        """The same horizontal view on half the width: one of two pictures side by side."""
        wide = 2 * math.atan(2 * math.tan(self.fov_y_rad / 2))
        aspect = max(self.aspect / 2, 1 / LARGEST_ASPECT)
        return Viewpoint(self.world_from_cam, min(wide, LARGEST_FOV_RAD), aspect)


@dataclass(frozen=True, slots=True)
class Comparison:
    """A photograph by name, and how it is compared with the picture; `share` of a blend is the photograph's."""

    photograph: str
    manner: ComparisonMode = "blend"
    share: float = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class RenderRequest:
    """A requested picture. If `blending` is None, the city's blending is used."""

    viewpoint: Viewpoint
    kind: Kind = "colour"
    blending: Blending | None = None
    left_out: frozenset[str] = frozenset()
    appearance: Appearance = MEAN_APPEARANCE
    comparison: Comparison | None = None


def blendings(rules: Manifest) -> tuple[Blending, ...]:
    """Possible kinds of blending for this city, its own first."""
    default: Blending = "surface" if rules.divide_by == "surface" else rules.blending
    others: tuple[Blending, ...] = ("visibility", "distance", "nearest")
    return (default, *(other for other in others if other != default))
