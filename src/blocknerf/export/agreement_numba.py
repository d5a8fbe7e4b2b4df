"""The hot loop of comparing views: does another picture see a point where this one does?"""

import numpy as np

from blocknerf.kernels.jit.compiled import compiled


@compiled(nogil=True)
def count_agreeing(
    places, views, cam_from_world, focal_px, sizes, first_rows, inverse_depths, tolerance_share, agreeing, beyond
):
    """Counts, for every place, the pictures that see a surface there, and those that see one behind it."""
    for view in views:
        pose, focal = cam_from_world[view], focal_px[view]
        width, height, first = sizes[view, 0], sizes[view, 1], first_rows[view]
        for place in range(len(places)):
            wx, wy, wz = places[place, 0], places[place, 1], places[place, 2]
            z = pose[2, 0] * wx + pose[2, 1] * wy + pose[2, 2] * wz + pose[2, 3]
            if z <= 0:
                continue
            x = (pose[0, 0] * wx + pose[0, 1] * wy + pose[0, 2] * wz + pose[0, 3]) / z
            y = (pose[1, 0] * wx + pose[1, 1] * wy + pose[1, 2] * wz + pose[1, 3]) / z
            column, row = focal * x + 0.5 * width, focal * y + 0.5 * height
            if not (0 <= column < width and 0 <= row < height):  # nor what is not a number
                continue
            farther = z * inverse_depths[first + np.int64(row) * width + np.int64(column)]
            if abs(farther - 1) <= tolerance_share:
                agreeing[place] += 1
            elif 0 < farther < 1 - tolerance_share:
                beyond[place] += 1
