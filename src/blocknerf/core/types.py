"""The seams: one frozen dataclass wherever two parts of the program meet.

Symbols: R rays, S samples along a ray, `t` a distance along the ray in metres (ray directions have unit length).
"""

from bisect import bisect_right
from collections.abc import Container, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from blocknerf.core.camera import Camera
from blocknerf.core.stored import Above0, Number, Text

Batch = TypeVar("Batch")

RAY_TENSORS = ("origins", "directions", "image_slots", "radii")
"""What every batch of rays has."""


def on_device(batch: Batch, device: torch.device) -> Batch:
    """A dataclass of tensors, and of such dataclasses, with all of them on `device`; what is no tensor stays."""

    def moved(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.to(device)
        return on_device(value, device) if is_dataclass(value) else value

    untyped: Any = batch
    return replace(untyped, **{field.name: moved(getattr(untyped, field.name)) for field in fields(untyped)})


@dataclass(frozen=True, slots=True)
class CameraView:
    """Pixels of a camera's picture: what a backbone that rasterises needs to know of rays.

    The camera's image is resized to `width` x `height` pixels: column i and row j look through the point
    ((i + 1/2) W / width, (j + 1/2) H / height) of it. `pixels` are numbers in that picture, row by row.
    `world_from_cam` has OpenCV axes, and is in the units of the rays.
    """

    camera: Camera
    world_from_cam: Float[Tensor, "3 4"]
    width: int
    height: int
    pixels: Int[Tensor, " rays"]

    def __getitem__(self, index: slice | Tensor) -> "CameraView":
        return replace(self, pixels=self.pixels[index])

    @property
    def tile(self) -> tuple[int, int, int, int]:
        """Left, top, width and height of the smallest rectangle that holds the pixels."""
        columns, rows = self.pixels % self.width, self.pixels // self.width
        left, top = int(columns.min()), int(rows.min())
        return left, top, int(columns.max()) + 1 - left, int(rows.max()) + 1 - top


@dataclass(frozen=True, slots=True)
class RayBatch:
    """Rays in world coordinates.

    `directions` have unit length. `image_slots` are rows of a block's appearance table, -1 for "no image"
    (the mean code). `radii` are those of the pixels' cones at distance 1: a disc of this radius has the variance of the
    pixel's footprint there (mip-NeRF, section 3.1). `view` says which camera's pixels they are, where they are any.
    """

    origins: Float[Tensor, "rays 3"]
    directions: Float[Tensor, "rays 3"]
    image_slots: Int[Tensor, " rays"]
    radii: Float[Tensor, " rays"]
    view: CameraView | None = None

    def __len__(self) -> int:
        return self.origins.shape[0]

    def __getitem__(self, index: slice | Tensor) -> "RayBatch":
        return RayBatch(
            origins=self.origins[index],
            directions=self.directions[index],
            image_slots=self.image_slots[index],
            radii=self.radii[index],
            view=None if self.view is None else self.view[index],
        )

    @staticmethod
    def concatenate(parts: Sequence["RayBatch"]) -> "RayBatch":
        """The rays of all `parts`, one part after the other; of no view, for parts may be of several."""
        origins, directions, slots, radii = (torch.cat([getattr(part, name) for part in parts]) for name in RAY_TENSORS)
        return RayBatch(origins, directions, slots, radii)


@dataclass(frozen=True, slots=True)
class FieldOutput:
    """What a radiance field says at points: `density` per metre, >= 0, and colour in [0, 1]."""

    density: Float[Tensor, "rays samples"]
    rgb: Float[Tensor, "rays samples 3"]


@dataclass(frozen=True, slots=True)
class RenderOutput:
    """Pixels: colour in [0, 1] as captured, opacity in [0, 1], expected distance along the ray in metres."""

    rgb: Float[Tensor, "*pixels 3"]
    opacity: Float[Tensor, "*pixels"]
    distance_m: Float[Tensor, "*pixels"]

    def reshape(self, *shape: int) -> "RenderOutput":
        return RenderOutput(self.rgb.reshape(*shape, 3), self.opacity.reshape(*shape), self.distance_m.reshape(*shape))

    @staticmethod
    def concatenate(parts: "list[RenderOutput]") -> "RenderOutput":
        return RenderOutput(
            torch.cat([p.rgb for p in parts]),
            torch.cat([p.opacity for p in parts]),
            torch.cat([p.distance_m for p in parts]),
        )


@dataclass(frozen=True, slots=True)
class TrajectoryPoint:
    """A moment of a camera's trajectory: between its images, or at one of them.

    `image_ids` are all images of the trajectory, with their `moments`, in any unit, which do not fall.
    """

    image_ids: tuple[str, ...]
    moments: tuple[float, ...]
    moment: float

    def neighbours(self, known: Container[str]) -> list[tuple[str, float]]:
        """The last `known` image up to the moment and the first after it, with weights that are linear in time.

        Weights sum to 1. It is a single image where only one side has any, and none where no image is known.
        """
        cut = bisect_right(self.moments, self.moment)
        before = next((row for row in reversed(range(cut)) if self.image_ids[row] in known), None)
        after = next((row for row in range(cut, len(self.moments)) if self.image_ids[row] in known), None)
        if before is None or after is None:
            return [(self.image_ids[row], 1.0) for row in (before, after) if row is not None]
        start, end = self.moments[before], self.moments[after]
        share = (self.moment - start) / (end - start)
        return [(self.image_ids[before], 1 - share), (self.image_ids[after], share)]


@dataclass(frozen=True, slots=True)
class Appearance:
    """Which look a picture takes: that of the training image `image_id` in blocks that trained on it, else that between
    the neighbours of `trajectory_point` that a block has trained on, else the mean of `drive`, else the mean of all.

    `exposure`, as captured, stands in the place of what is known of that image or drive, and `exposure_stops` brighten
    by so many stops. `blend_towards` another look, at `share` from 0 (this look) to 1 (the other): codes in a straight
    line, exposures in stops. Without a share it is the picture's place on its path, 0 for a picture alone.
    """

    image_id: str | None = None
    drive: str | None = None
    exposure: float | None = None
    trajectory_point: TrajectoryPoint | None = None
    exposure_stops: float = 0.0
    blend_towards: "Appearance | None" = None
    share: float | None = None

    def resolved(self, drive: str | None, place: float = 0.0) -> "Appearance":
        """For one picture of a path, `place` in [0, 1] along it: of `drive` and at this share unless it has its own."""
        return replace(self, drive=self.drive or drive, share=place if self.share is None else self.share)

    def drive_shares(self) -> list[tuple[str | None, float]]:
        """How much of the look each drive has, its own first; shares sum to 1."""
        if self.blend_towards is None:
            return [(self.drive, 1.0)]
        share = self.share or 0.0
        return [(self.drive, 1 - share), *((name, share * part) for name, part in self.blend_towards.drive_shares())]


MEAN_APPEARANCE = Appearance()

MEAN_EXPOSURE_VALUE = 250.0
"""Exposure value of a scene's mean. Over 1000, its lowest sinusoid rises up to 2.6 stops above the mean."""


@dataclass(frozen=True, slots=True)
class Exposures:
    """Exposures of a scene's training images in stops around their geometric mean; the same for every block.

    A captured exposure times `scale` is the exposure value (Block-NeRF, section 4.2.1), MEAN_EXPOSURE_VALUE at the
    mean. `range_stops` are the least and the largest that were trained on. Images and drives whose exposure nobody
    knows are not among the keys.
    """

    scale: Above0
    range_stops: tuple[Number, Number]
    drive_stops: dict[Text, Number]
    image_stops: dict[Text, Number]
