"""Tensors as arrays for compiled kernels."""

import numpy as np
from torch import Tensor


def array_of(tensor: Tensor) -> np.ndarray:
    """The values in C order, without a copy if they already are.

    Once numba has compiled an overload for any strides, it also uses that for arrays in C order, and its sums round
    differently. If all arrays are in C order, there is only one overload, and a kernel's result does not depend on
    earlier calls in the process.
    """
    return tensor.detach().contiguous().numpy()
