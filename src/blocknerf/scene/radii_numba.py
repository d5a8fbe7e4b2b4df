"""How wide a pixel's cone is, from the directions of its neighbours."""

import numpy as np

from blocknerf.kernels.jit.compiled import compiled


@compiled
def pixel_radius(directions, begin, width, height, pixel):
    """Radius at distance 1 of pixel number `pixel` of a picture whose row-major directions start at row `begin`.

    A pixel is a w x h rectangle of variance w^2 / 12 and h^2 / 12; the disc of radius sqrt((w^2 + h^2) / 6) has their
    mean (2 / sqrt(12) of the width where w = h: mip-NeRF, section 3.1). w and h are distances to the nearer neighbour
    on either side, so that one neighbour that the lens never saw does no harm.
    """
    column, row = pixel % width, pixel // width
    index = begin + pixel
    wide = _step(directions, index, index - 1, column > 0, index + 1, column + 1 < width)
    high = _step(directions, index, index - width, row > 0, index + width, row + 1 < height)
    if wide < 0:
        wide = high
    if high < 0:
        high = wide
    return np.float32(np.sqrt((wide + high) / 6)) if wide >= 0 else np.float32(0)


@compiled
def picture_radii(directions, width, height):
    """`pixel_radius` of every pixel of one picture; `directions` are [height * width, 3]."""
    radii = np.empty(width * height, np.float32)
    for pixel in range(width * height):
        radii[pixel] = pixel_radius(directions, 0, width, height, pixel)
    return radii


@compiled
def _step(directions, index, before, has_before, after, has_after):
    """Squared distance to the nearer of two neighbours; -1 where there is none."""
    nearest = -1.0
    if has_before:
        nearest = _squared_distance(directions, index, before)
    if has_after:
        other = _squared_distance(directions, index, after)
        nearest = other if nearest < 0 else min(nearest, other)
    return nearest


@compiled
def _squared_distance(directions, one, other):
    total = 0.0
    for axis in range(3):
        difference = float(directions[one, axis]) - float(directions[other, axis])
        total += difference * difference
    return total
