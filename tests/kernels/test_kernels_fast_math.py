"""Elementary functions of the kernels, against those of double precision."""

import numpy as np
from numba import njit

from blocknerf.kernels.jit.fast_math import HIGHEST, LOWEST, exp, sine_and_cosine


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


@njit(fastmath=True)
def _sines_of_all(values, sines, cosines):
    for i in range(values.shape[0]):
        sines[i], cosines[i] = sine_and_cosine(values[i])


def test_sines_and_cosines_of_a_quarter_turn():
    values = np.linspace(0, np.float32(np.pi / 2), 100_001, dtype=np.float32)
    sines, cosines = np.empty_like(values), np.empty_like(values)
    _sines_of_all(values, sines, cosines)
    assert np.abs(sines - np.sin(values.astype(np.float64))).max() < 2e-7
    assert np.abs(cosines - np.cos(values.astype(np.float64))).max() < 2e-7
