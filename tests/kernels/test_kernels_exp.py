"""The exponential function of the kernels, against that of double precision."""

import numpy as np
from numba import njit

from blocknerf.kernels.exp_numba import HIGHEST, LOWEST, exp


@njit(fastmath=True)
def _exp_of_all(values, out):
    for i in range(values.shape[0]):
        out[i] = exp(values[i])


def _exp(values):
    values = np.asarray(values, np.float32)
    out = np.empty_like(values)
    _exp_of_all(values, out)
    return out


def test_it_is_e_to_the_x():
    values = np.linspace(LOWEST, HIGHEST, 200_001).astype(np.float32)
    assert np.abs(_exp(values) / np.exp(values.astype(np.float64)) - 1).max() < 4e-7


def test_its_ends():
    assert _exp([0.0, -0.0]).tolist() == [1.0, 1.0]
    assert _exp([-88.0, -1e30, -np.inf]).tolist() == [0.0, 0.0, 0.0]
    assert _exp([200.0, np.inf]).tolist() == [_exp([HIGHEST])[0]] * 2
