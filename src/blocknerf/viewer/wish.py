"""What one browser wants to see. Everything that decides a picture, and nothing else."""

import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from jaxtyping import Float

from blocknerf.city.look import Look
from blocknerf.city.manifest import Manifest
from blocknerf.scene.scene import Camera

Kind = Literal["colour", "depth", "visibility", "weights", "seams"]
Blending = Literal["surface", "visibility", "distance", "nearest"]
Manner = Literal["blend", "side by side", "difference"]


@dataclass(frozen=True, slots=True, eq=False)
class Viewpoint:
    """A camera without distortion: where it stands, how much it sees from top to bottom, its width over its height."""

    world_from_cam: Float[np.ndarray, "3 4"]  # OpenCV axes, metres
    fov_y_rad: float
    aspect: float

    def camera(self, width: int) -> Camera:
        """Of a picture so many pixels wide."""
        height = max(1, round(width / self.aspect))
        focal_px = height / 2 / math.tan(self.fov_y_rad / 2)
        return Camera.pinhole(width, height, focal_px)

    def half(self) -> "Viewpoint":
        """Sees as much from left to right on half the width: one of two pictures that stand side by side."""
        return Viewpoint(self.world_from_cam, 2 * math.atan(2 * math.tan(self.fov_y_rad / 2)), self.aspect / 2)


@dataclass(frozen=True, slots=True)
class Comparison:
    """A photograph by its name, and how it stands beside the picture; `share` of a blend is the photograph's."""

    photograph: str
    manner: Manner = "blend"
    share: float = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Wish:
    """A picture that somebody wants. `blending` none: as the city is blended."""

    viewpoint: Viewpoint
    kind: Kind = "colour"
    blending: Blending | None = None
    left_out: frozenset[str] = frozenset()
    look: Look = field(default_factory=Look)
    comparison: Comparison | None = None


def blendings(rules: Manifest) -> tuple[Blending, ...]:
    """How this city can be blended, its own way first."""
    own: Blending = "surface" if rules.divide_by == "surface" else rules.blending
    others: tuple[Blending, ...] = ("visibility", "distance", "nearest")
    return (own, *(other for other in others if other != own))
