"""Conversions of poses and pixels when formats are read."""

from collections.abc import Sequence

import numpy as np

CENTRE_PX = 0.5
"""From pixel centres at whole numbers, as OpenCV counts, to ours at half integers."""


def rotation_of(quaternion_wxyz: Sequence[float] | np.ndarray) -> np.ndarray:
    """[3, 3]. The quaternion is not normalised: if its length is not 1, the result is not a rotation, which a later
    check finds."""
    w, x, y, z = quaternion_wxyz
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    axis = np.array([x, y, z])
    with np.errstate(invalid="ignore", over="ignore"):
        return (w * w - axis @ axis) * np.eye(3) + 2 * np.outer(axis, axis) + 2 * w * cross
