"""Exposure as an input of colour (Block-NeRF, section 4.2.1): sinusoids of the exposure value / 1000."""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from blocknerf.core.types import MEAN_EXPOSURE_VALUE, Exposures, TrajectoryPoint

VALUE_UNIT = 1000.0


class ExposureEncoding(nn.Module):
    """Encodes exposures of a block's training images by slot, and any other by its stops around the scene's mean."""

    stops: Tensor

    def __init__(self, levels: int, exposures: Exposures, image_ids: tuple[str, ...]):
        super().__init__()
        self.levels = levels
        known = exposures.image_stops
        self.exposures = replace(exposures, image_stops={name: known[name] for name in image_ids if name in known})
        stops = torch.tensor([known.get(name, 0.0) for name in image_ids], dtype=torch.float32)
        self.register_buffer("stops", stops, persistent=False)

    @property
    def width(self) -> int:
        return 2 * self.levels

    def forward(self, image_slots: Int[Tensor, " rays"]) -> Float[Tensor, "rays encoding"]:
        """Encodings of slots; -1, and an image without exposure, has the scene's mean."""
        stops = self.stops[image_slots.clamp(min=0)]
        return self.encode(torch.where(image_slots < 0, torch.zeros_like(stops), stops))

    def encode(self, stops: Float[Tensor, "*rays"]) -> Float[Tensor, "*rays encoding"]:
        """sin and cos of 2^k value / 1000 for k below `levels`; the value is that of `stops` around the mean.

        Exposures beyond those trained on are clamped to the nearest, because sinusoids would wrap around.
        """
        value = MEAN_EXPOSURE_VALUE * torch.exp2(stops.clamp(*self.exposures.range_stops))
        octaves = torch.exp2(torch.arange(self.levels, dtype=stops.dtype, device=stops.device))
        angles = (value / VALUE_UNIT)[..., None] * octaves
        return torch.cat([angles.sin(), angles.cos()], -1)

    def stops_for(
        self, image_id: str | None, drive: str | None, exposure: float | None, point: TrajectoryPoint | None = None
    ) -> float:
        """Stops of a captured `exposure` if given, else of the image, else between the neighbours of `point`, else of
        its drive, else 0, the mean."""
        if exposure is not None:
            return self._stops_of(exposure)
        known = self.exposures
        if point is not None and image_id not in known.image_stops:
            neighbours = point.neighbours(known.image_stops)
            if neighbours:
                return sum(weight * known.image_stops[name] for name, weight in neighbours)
        return known.image_stops.get(image_id or "", known.drive_stops.get(drive or "", 0.0))

    def grow(self, image_ids: Sequence[str], exposures: Sequence[float | None]) -> None:
        """Appends slots of new images with their captured exposures; scale and old slots stay as they are."""
        new = {
            name: self._stops_of(value) for name, value in zip(image_ids, exposures, strict=True) if value is not None
        }
        least, largest = self.exposures.range_stops
        wider = (min(least, *new.values()), max(largest, *new.values())) if new else (least, largest)
        self.exposures = replace(self.exposures, range_stops=wider, image_stops=self.exposures.image_stops | new)
        self.stops = torch.cat([self.stops, self.stops.new_tensor([new.get(name, 0.0) for name in image_ids])])

    def _stops_of(self, exposure: float) -> float:
        return math.log2(exposure * self.exposures.scale / MEAN_EXPOSURE_VALUE)
