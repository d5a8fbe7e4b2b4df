"""Views through a city, one frame after the other."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.city.city import City, composite
from blocknerf.export.paths import View, view_rays


@dataclass(frozen=True, slots=True)
class Look:
    """How frames look: the appearance of the training image `image_id` if given, else of `drive`, else each view's own.

    With `towards`, the (image id, drive) of another image, frames go from the one to the other: evenly over the path,
    or with `share` in [0, 1] all at that place between them. `exposure_stops` brighten by so many stops.
    """

    image_id: str | None = None
    drive: str | None = None
    towards: tuple[str, str] | None = None
    share: float | None = None
    exposure_stops: float = 0.0


def render_views(city: City, views: Sequence[View], look: Look) -> Iterator[Float[Tensor, "h w 3"]]:
    """Composited colours of each view in turn."""
    for number, view in enumerate(views):
        center = torch.from_numpy(np.array(view.world_from_cam[:, 3], dtype=np.float64))
        share = number / max(len(views) - 1, 1) if look.share is None else look.share
        towards = None if look.towards is None else (*look.towards, share)
        drive = look.drive or view.drive or city.main_drive
        codes = {
            block_id: city.code_for(block_id, look.image_id, drive, look.exposure_stops, towards=towards)
            for block_id in city.weights(center)
        }
        picture = composite(city.layers(view_rays(view), center, codes=codes))
        yield picture.rgb.reshape(view.height, view.width, 3)
