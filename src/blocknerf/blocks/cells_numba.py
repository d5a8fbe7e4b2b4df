"""The planner's hot loops: the nearest cell of millions of places, the cells in reach of millions of cameras.

Cells lie in bins of a square table: those of bin b are members[begin[b] : begin[b + 1]], in ascending order. A bin is
at least as wide as a cell and as its reach.
"""

import numpy as np

from blocknerf.kernels.jit.compiled import compiled
from blocknerf.kernels.jit.fast_math import whole_between

_SLACK = 1 + 1e-9  # a cell exactly as far as one looks must not be lost to rounding


@compiled(nogil=True)
def bin_of(value, low, width_m, count):
    """The bin that holds a coordinate; the first or last one for what lies outside of the table."""
    return whole_between(min(max((value - low) / width_m, 0.0), count - 1.0), 0, count - 1)


@compiled(nogil=True)
def apart_m(x, y, center, is_square):
    across_m, along_m = abs(x - center[0]), abs(y - center[1])
    return max(across_m, along_m) if is_square else np.sqrt(across_m * across_m + along_m * along_m)


@compiled(nogil=True)
def nearest_cell(x, y, limit_m, centers_xy, is_square, low_xy, width_m, counts, begin, members):
    """The nearest cell and how far its centre is; on a border the first has it. (-1, infinity) beyond `limit_m`.

    Looks one bin around, two bins, then everywhere: what lies in no bin that was looked into is farther than that.
    """
    for ring in range(1, 3):
        found, found_m, around_m = -1, np.inf, min(limit_m, ring * width_m) * _SLACK
        for i in range(
            bin_of(x - around_m, low_xy[0], width_m, counts[0]), bin_of(x + around_m, low_xy[0], width_m, counts[0]) + 1
        ):
            for j in range(
                bin_of(y - around_m, low_xy[1], width_m, counts[1]),
                bin_of(y + around_m, low_xy[1], width_m, counts[1]) + 1,
            ):
                for index in range(begin[i * counts[1] + j], begin[i * counts[1] + j + 1]):
                    cell = members[index]
                    cell_m = apart_m(x, y, centers_xy[cell], is_square)
                    if cell_m < found_m or (cell_m == found_m and cell < found):
                        found, found_m = cell, cell_m
        if found_m <= ring * width_m or limit_m <= ring * width_m:
            return (found, found_m) if found_m <= limit_m else (np.int64(-1), np.inf)
    found, found_m = 0, np.inf
    for cell in range(len(centers_xy)):
        cell_m = apart_m(x, y, centers_xy[cell], is_square)
        if cell_m < found_m:
            found, found_m = cell, cell_m
    return (found, found_m) if found_m <= limit_m else (np.int64(-1), np.inf)


@compiled(nogil=True)
def nearest_cells(xy, limit_m, centers_xy, is_square, low_xy, width_m, counts, begin, members, cells, distances_m):
    for place in range(len(xy)):
        cells[place], distances_m[place] = nearest_cell(
            xy[place, 0], xy[place, 1], limit_m, centers_xy, is_square, low_xy, width_m, counts, begin, members
        )


@compiled(nogil=True)
def cells_within(xy, reach_m, centers_xy, is_square, low_xy, width_m, counts, begin, members, points, cells):
    """All (point, cell) at most `reach_m` apart, in the order of points. Fills as many as there is room for.

    Returns how many there are.
    """
    number = 0
    for point in range(len(xy)):
        x, y = xy[point, 0], xy[point, 1]
        column, row = bin_of(x, low_xy[0], width_m, counts[0]), bin_of(y, low_xy[1], width_m, counts[1])
        for i in range(max(column - 1, 0), min(column + 2, counts[0])):
            for j in range(max(row - 1, 0), min(row + 2, counts[1])):
                for index in range(begin[i * counts[1] + j], begin[i * counts[1] + j + 1]):
                    cell = members[index]
                    if apart_m(x, y, centers_xy[cell], is_square) <= reach_m:
                        if number < len(points):
                            points[number], cells[number] = point, cell
                        number += 1
    return number


@compiled(nogil=True)
def tally(cells, begin, rows, kept, numbers):
    """How often each cell occurs among those of row i, cells[begin[i] : begin[i + 1]]; -1 is none.

    Fills (row, cell, how often) and returns how many; there are never more than `cells`.
    """
    number = 0
    for row in range(len(begin) - 1):
        first = number
        for index in range(begin[row], begin[row + 1]):
            if cells[index] < 0:
                continue
            for known in range(first, number):
                if kept[known] == cells[index]:
                    numbers[known] += 1
                    break
            else:
                rows[number], kept[number], numbers[number] = row, cells[index], 1
                number += 1
    return number


@compiled(nogil=True)
def frustum_places(
    images, camera, directions, directions_begin, poses, depths_m, ground_from_world, origin_world, low, high, places
):
    """Where the rays of some images stand after `depths_m`, in the ground frame, image after image.

    Those between `low` and `high` (x, y), ends included; returns how many that are.
    """
    number, world = 0, np.empty(3)
    for image in images:
        pose = poses[image]
        for ray in range(directions_begin[camera[image]], directions_begin[camera[image] + 1]):
            direction = directions[ray]
            for axis in range(3):
                along = pose[axis, 0] * direction[0] + pose[axis, 1] * direction[1] + pose[axis, 2] * direction[2]
                world[axis] = pose[axis, 3] + depths_m[image] * along - origin_world[axis]
            for axis in range(3):
                places[number, axis] = (
                    ground_from_world[axis, 0] * world[0]
                    + ground_from_world[axis, 1] * world[1]
                    + ground_from_world[axis, 2] * world[2]
                )
            if low[0] <= places[number, 0] <= high[0] and low[1] <= places[number, 1] <= high[1]:
                number += 1
    return number
