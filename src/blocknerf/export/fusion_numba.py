"""The hot loop of fusing: for every lattice point of a brick, the distance to the surface in every picture."""

import math

import numpy as np

from blocknerf.kernels.jit.compiled import compiled

_GRAZING = 0.05
"""Cosine below which a picture is not used."""
_MOST_BEHIND = 3.0
"""Truncations along a ray behind its surface beyond which the surface's plane is not used."""
_STEP = 1.15
"""Ratio of neighbouring depths from which they belong to two surfaces."""


@compiled(nogil=True, fastmath=False)
def fuse(
    low_world,
    voxel_m,
    truncation_m,
    owners,
    views,
    cam_from_world,
    focal_px,
    sizes,
    first_rows,
    view_blocks,
    inverse_depths,
    spreads_m,
    cosines,
    colours,
    values,
    weights,
    colour_sums,
    colour_weights,
):
    """Adds the pictures `views` to a brick's sums: truncated signed distance, its weight, and colour.

    Positive in front of a surface. A picture contributes only to points that its block owns, and not to points more
    than the truncation behind its surface. Its weight is the inverse variance: of the spread along the ray, the pixel's
    footprint, and a voxel.
    """
    points = owners.shape[0]
    for view in views:
        pose, focal = cam_from_world[view], focal_px[view]
        width, height, first, block = sizes[view, 0], sizes[view, 1], first_rows[view], view_blocks[view]
        for i in range(points):
            wx = low_world[0] + i * voxel_m
            for j in range(points):
                wy = low_world[1] + j * voxel_m
                for k in range(points):
                    if owners[i, j, k] != block:
                        continue
                    wz = low_world[2] + k * voxel_m
                    z = pose[2, 0] * wx + pose[2, 1] * wy + pose[2, 2] * wz + pose[2, 3]
                    if z < voxel_m:
                        continue
                    x = (pose[0, 0] * wx + pose[0, 1] * wy + pose[0, 2] * wz + pose[0, 3]) / z
                    y = (pose[1, 0] * wx + pose[1, 1] * wy + pose[1, 2] * wz + pose[1, 3]) / z
                    u, v = focal * x + 0.5 * width - 0.5, focal * y + 0.5 * height - 0.5
                    if not (0 <= u < width - 1 and 0 <= v < height - 1):  # nor what is not a number
                        continue
                    inverse, spread = _between(inverse_depths, spreads_m, first, width, u, v)
                    if inverse <= 0:
                        continue
                    near = first + np.int64(v + 0.5) * width + np.int64(u + 0.5)
                    along = math.sqrt(1 + x * x + y * y)
                    cosine = cosines[near]
                    along_ray_m = (1 / inverse - z) * along
                    away_m = along_ray_m * cosine
                    if cosine < _GRAZING or away_m < -truncation_m or along_ray_m < -_MOST_BEHIND * truncation_m:
                        continue
                    footprint = z / focal
                    weight = cosine * voxel_m**2 / (voxel_m**2 + spread * spread + footprint * footprint)
                    values[i, j, k] += weight * min(1.0, away_m / truncation_m)
                    weights[i, j, k] += weight
                    if away_m < truncation_m:
                        colour_weights[i, j, k] += weight
                        for channel in range(3):
                            colour_sums[i, j, k, channel] += weight * colours[near, channel]


@compiled(nogil=True, inline="always")
def _between(inverse_depths, spreads_m, first, width, u, v):
    """1 / depth between four pixels, linear as it is on planes, and the largest spread of the four.

    Where the four are not of one surface, those of the nearest pixel.
    """
    column, row = np.int64(u), np.int64(v)
    right, down = u - column, v - row
    corner = first + row * width + column
    a, b = inverse_depths[corner], inverse_depths[corner + 1]
    c, d = inverse_depths[corner + width], inverse_depths[corner + width + 1]
    low, high = min(min(a, b), min(c, d)), max(max(a, b), max(c, d))
    if low <= 0 or high > _STEP * low:
        near = first + np.int64(v + 0.5) * width + np.int64(u + 0.5)
        return inverse_depths[near], spreads_m[near]
    spread = max(
        max(spreads_m[corner], spreads_m[corner + 1]), max(spreads_m[corner + width], spreads_m[corner + width + 1])
    )
    return (1 - down) * ((1 - right) * a + right * b) + down * ((1 - right) * c + right * d), spread
