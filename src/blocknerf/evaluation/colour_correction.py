"""Corrects the colours of a picture to those of its photograph by one affine map; optimistic by nature."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def correct_colours(
    render: Float[Tensor, "h w 3"], truth: Float[Tensor, "h w 3"], valid: Bool[Tensor, "h w"]
) -> Float[Tensor, "h w 3"]:
    """`render` under the map c -> A c + b that is nearest to `truth` over valid pixels in least squares.

    The picture is clamped to [0, 1] first, as in any viewer. If it has too few colours to determine A and b, the
    smallest of the best solutions is used.
    """
    rendered = render.clamp(0, 1).double()
    colours = torch.cat([rendered, torch.ones_like(rendered[..., :1])], -1)
    best = torch.linalg.lstsq(colours[valid], truth[valid].double(), driver="gelsd").solution
    return (colours @ best).to(render)
