"""Views through a city, one frame after the other."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.city.appearance_settings import AppearanceSettings
from blocknerf.city.city import City, composite
from blocknerf.export.paths import View, view_rays


def render_views(city: City, views: Sequence[View], look: AppearanceSettings) -> Iterator[Float[Tensor, "h w 3"]]:
    """Composited colours of each view in turn; between two appearances, it changes from one to the other along the
    path."""
    for number, view in enumerate(views):
        center = torch.from_numpy(np.array(view.world_from_cam[:, 3], dtype=np.float64))
        codes = look.codes(city, city.weights(center), view.drive, number / max(len(views) - 1, 1))
        picture = composite(city.layers(view_rays(view), center, codes=codes))
        yield picture.rgb.reshape(view.height, view.width, 3)
