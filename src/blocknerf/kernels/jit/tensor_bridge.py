"""The way of a tensor into a compiled kernel."""

import numpy as np
from torch import Tensor


def array_of(tensor: Tensor) -> np.ndarray:
    """The values in C order, without a copy where they lie so already.

    Numba takes an overload for any strides, once one was compiled, for arrays in C order too, and its sums round
    differently: with arrays in C order alone there is one overload, and a kernel's bytes do not depend on what was
    called before in the process.
    """
    return tensor.detach().contiguous().numpy()
