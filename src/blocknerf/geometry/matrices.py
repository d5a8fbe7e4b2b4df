"""Checks of matrices from files, without torch: help and plans do without it."""

import numpy as np
from jaxtyping import Float

TOLERANCE = 2e-3
"""Tolerance of the entries of R R^T: numbers in files have few digits."""


def is_rotation(matrix: Float[np.ndarray, "3 3"]) -> bool:
    """Whether a matrix from a file is finite, neither scaled nor skewed, and right-handed, to TOLERANCE."""
    if not np.abs(matrix).max() <= 2:  # nor may squares overflow
        return False
    return bool(np.abs(matrix @ matrix.T - np.eye(3)).max() <= TOLERANCE and np.linalg.det(matrix) > 0)
