"""The colours of a picture moved to those of its photograph by one affine map; optimistic by its nature."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def correct_colours(
    render: Float[Tensor, "h w 3"], truth: Float[Tensor, "h w 3"], valid: Bool[Tensor, "h w"]
) -> Float[Tensor, "h w 3"]:
    """`render` under the map c -> A c + b that is nearest to `truth` over valid pixels in least squares.

    The picture is clamped to [0, 1] first, as any viewer would see it. Where it has too few colours to decide A and b,
    the smallest of the best is taken.
    """
    shown = render.clamp(0, 1).double()
    colours = torch.cat([shown, torch.ones_like(shown[..., :1])], -1)
    best = torch.linalg.lstsq(colours[valid], truth[valid].double(), driver="gelsd").solution
    return (colours @ best).to(render)
