"""Views through a city, one frame after the other."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.city.city import City, composite
from blocknerf.core.types import Appearance
from blocknerf.export.paths import View, view_rays


def render_views(city: City, views: Sequence[View], appearance: Appearance) -> Iterator[Float[Tensor, "h w 3"]]:
    """Composited colours of each view in turn; an appearance between two goes from one to the other over the path.

    A view that has a look of its own has that, with the `exposure_stops` of `appearance`.
    """
    for number, view in enumerate(views):
        center = torch.from_numpy(np.array(view.world_from_cam[:, 3], dtype=np.float64))
        of_view = view.appearance and replace(view.appearance, exposure_stops=appearance.exposure_stops)
        resolved = (of_view or appearance).resolved(view.drive or city.main_drive, number / max(len(views) - 1, 1))
        codes = city.codes_for(city.weights(center), resolved)
        picture = composite(city.layers(view_rays(view), center, codes=codes))
        yield picture.rgb.reshape(view.height, view.width, 3)
