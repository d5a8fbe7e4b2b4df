"""Which blocks contribute to a picture, and with which weights: inverse distance, with a fade that avoids popping.

Hard rules ("the three nearest", "none beyond 75 m") make a block appear or vanish between two frames while it still has
weight. Here every block has a fade that reaches zero exactly where a rule would drop it, so weights are continuous
functions of the camera's position. All lengths are in metres.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.core.errors import UserError

FADE_SHARE = 0.25
"""Blocks fade over the last quarter of the reach; nearer than 0.75 of it, they have their full weight."""
TIE_MARGIN = 0.1
"""Blocks at most this much farther than the nearest are never fully dropped."""
FAINT = 1e-3
"""Share of the largest weight below which a block is not worth its rendering time: a quarter of an 8-bit level."""
ENOUGH = 0.1
"""Share of a picture that blocks with a good view must have before the others are dropped."""
ENTERING = 0.1
"""Weight up to which a block enters all pixels evenly (see `visibility_weights`)."""
LEAST_VISIBLE = 0.05
"""Weight of a block that sees nothing, relative to one at the threshold, if no block sees enough."""


def distances_to(camera_center: Float[Tensor, "3"], anchors: Float[Tensor, "blocks 3"]) -> Float[Tensor, " blocks"]:
    """Distances in metres from the camera to all anchors, in float64."""
    return torch.linalg.vector_norm(anchors.double() - camera_center.double(), dim=-1)


def fades(
    distances: Float[Tensor, " blocks"], distance_threshold: float, max_composited: int
) -> Float[Tensor, " blocks"]:
    """How much of its inverse-distance weight each block keeps: 1 well inside the reach L, 0 from L on.

    L is the smaller of `distance_threshold` and the distance of the first block that is one too many (number
    `max_composited` + 1 by distance), but at least (1 + TIE_MARGIN) times the nearest distance. Over the last
    FADE_SHARE of L, a smooth step goes from 1 to 0. Order statistics, minima and maxima of continuous distances are
    continuous, and so is the fade: the k-th block reaches zero at the moment when the next one overtakes it. The margin
    keeps the nearest block's fade above zero everywhere. Its price: if more than `max_composited` blocks are equally
    near within 10 % (the corner of a grid), all of them are blended. No continuous rule can avoid that, because blocks
    at equal distance must have equal weights.
    """
    ascending = distances.sort().values
    reach = torch.tensor(distance_threshold, dtype=distances.dtype)
    if len(distances) > max_composited:
        reach = torch.minimum(reach, ascending[max_composited])
    reach = torch.maximum(reach, (1 + TIE_MARGIN) * ascending[0])
    inside = (reach - distances) / (FADE_SHARE * reach).clamp(min=torch.finfo(distances.dtype).tiny)
    return torch.where(distances == 0, torch.ones_like(inside), _smooth_step(inside))


def visible_block_weights(
    weights: Float[Tensor, " blocks"], visibilities: Float[Tensor, " blocks"], threshold: float
) -> Float[Tensor, " blocks"]:
    """`weights` (summing to 1) without the blocks that see too little of a picture; the result also sums to 1.

    `visibilities` are means over the picture, in [0, 1]. A block has weight zero up to `threshold`, and its full weight
    from twice the threshold on. If the blocks that keep their weight have less than ENOUGH of the whole, the others
    return, by what they see: all of them if no block sees anything. Threshold 0 changes nothing.

    Always continuous in weights and visibilities: every block counts only through its weight, so a block that has just
    entered the picture changes nothing yet, and no denominator is below LEAST_VISIBLE / 2.
    """
    if threshold == 0:
        return weights
    seen = visibilities / threshold
    kept = weights * _smooth_step(seen - 1)
    others = weights * (LEAST_VISIBLE + (1 - LEAST_VISIBLE) * seen.clamp(max=1))
    together = kept + (1 - _smooth_step(kept.sum() / ENOUGH)) * others
    return together / together.sum()


def _smooth_step(x: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """Rises from 0 at 0 to 1 at 1, flat at both ends and beyond."""
    inside = x.clamp(0, 1)
    return inside * inside * (3 - 2 * inside)


def inverse_distance_weights(
    distances: Float[Tensor, "blocks *pixels"], power: float
) -> Float[Tensor, "blocks *pixels"]:
    """w_i ~ d_i^-p, summing to 1 over the blocks (Block-NeRF, section 4.3).

    Relative to the nearest distance, (d_min / d_i)^p is in [0, 1]: nothing overflows, a camera on an anchor sees only
    that block (or all blocks with the same anchor), and power 0 gives equal weights.
    """
    nearest = distances.amin(0)
    ratio = torch.where(distances == nearest, torch.ones_like(distances), nearest / distances)
    weights = ratio**power
    return weights / weights.sum(0)


def surface_weights(
    distances: Float[Tensor, "blocks pixels"], weights: Float[Tensor, " blocks"], power: float
) -> Float[Tensor, "blocks pixels"]:
    """Share of every block in every pixel, summing to 1 over the blocks.

    `distances` are those from a block's cells to the surface that it sees in the pixel. `weights` are those of whole
    pictures (see `block_weights`), so that a block fades from every pixel without a step as the camera leaves.
    """
    products = inverse_distance_weights(distances, power) * weights[:, None].to(distances)
    return products / products.sum(0)


def visibility_weights(
    sights: Float[Tensor, "blocks pixels"], weights: Float[Tensor, " blocks"]
) -> Float[Tensor, "blocks pixels"]:
    """Share of every block in every pixel, summing to 1 over the blocks.

    `sights` > 0 say how well a block knows what it shows in a pixel (`BlockRenderer.view_confidence`). The `weights` of
    whole pictures count with their square root: blocks that overlap by half know a place between them about equally
    well, and the mean of two pictures has less noise than one. Below ENTERING, the root is replaced by a parabola with
    the same value and slope at ENTERING and a small slope at zero: if one block knows much and the other little, a
    pixel must not change from one to the other abruptly.
    """
    entering = weights / ENTERING
    roots = torch.where(entering < 1, ENTERING**0.5 * entering * (1.5 - 0.5 * entering), weights.sqrt())
    products = roots[:, None].to(sights) * sights
    return products / products.sum(0)


def block_weights(
    camera_center: Float[Tensor, "3"],
    anchors: Float[Tensor, "blocks 3"],
    distance_threshold: float,
    max_composited: int,
    power: float,
) -> Float[Tensor, " blocks"]:
    """Weight of every block in a picture from `camera_center`. Weights sum to 1; blocks with zero are not rendered.

    Continuous in the camera's position: inverse-distance weights times `fades`, lowered by FAINT of the largest and cut
    at zero, so that blocks too faint to see cost no time and still fade without a step.
    """
    if not torch.isfinite(camera_center).all():
        raise UserError(f"The camera is at {camera_center.tolist()}. A position has three finite numbers in metres.")
    distances = distances_to(camera_center, anchors)
    weights = inverse_distance_weights(distances, power) * fades(distances, distance_threshold, max_composited)
    weights = (weights / weights.max() - FAINT).clamp(min=0)
    return weights / weights.sum()
