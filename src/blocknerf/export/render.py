"""Views through a city, one frame after the other."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.city.city import City
from blocknerf.export.paths import View, view_rays


def render_views(
    city: City, views: Sequence[View], image_id: str | None = None, drive: str | None = None
) -> Iterator[Float[Tensor, "h w 3"]]:
    """Composited colours of each view in turn.

    Appearance: the training image `image_id` if given, else `drive`, else each view's own drive.
    """
    for view in views:
        center = torch.from_numpy(np.array(view.world_from_cam[:, 3], dtype=np.float64))
        picture = city.render(view_rays(view), center, image_id=image_id, drive=drive or view.drive)
        yield picture.rgb.reshape(view.height, view.width, 3)
