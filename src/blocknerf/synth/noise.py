"""Procedural patterns with their own antialiasing: each takes the footprint of a sample and blurs itself by it."""

import numba
import numpy as np

_SIDE = 256
_LATTICE = np.random.default_rng(20220607).uniform(-1.0, 1.0, (_SIDE, _SIDE)).astype(np.float32)


@numba.njit(cache=True, nogil=True)
def _value_noise(x: float, y: float, lattice: np.ndarray) -> float:
    """Smooth noise in [-1, 1] with features of size 1, from a random lattice."""
    column, row = np.floor(x), np.floor(y)
    fx, fy = x - column, y - row
    fx, fy = fx * fx * (3 - 2 * fx), fy * fy * (3 - 2 * fy)
    x0, y0 = int(column) & (_SIDE - 1), int(row) & (_SIDE - 1)
    x1, y1 = (x0 + 1) & (_SIDE - 1), (y0 + 1) & (_SIDE - 1)
    low = lattice[y0, x0] * (1 - fx) + lattice[y0, x1] * fx
    high = lattice[y1, x0] * (1 - fx) + lattice[y1, x1] * fx
    return low * (1 - fy) + high * fy


@numba.njit(cache=True, nogil=True)
def _fractal_noise(x, y, coarsest_m, octaves, footprint, lattice):
    total = np.zeros(x.shape, np.float32)
    for i in range(x.size):
        strength, cell_m = 1.0, coarsest_m
        for octave in range(octaves):
            visible = min(1.5 - 2.0 * footprint[i] / cell_m, 1.0)
            if visible <= 0.0:
                break
            value = _value_noise(x[i] / cell_m + 17.3 * octave, y[i] / cell_m + 41.7 * octave, lattice)
            total[i] += strength * visible * value
            strength, cell_m = strength * 0.6, cell_m / 2
    return total


def fractal_noise(x: np.ndarray, y: np.ndarray, coarsest_m: float, octaves: int, footprint: np.ndarray) -> np.ndarray:
    """Octaves [N] from `coarsest_m` down, each half as large and 0.6 as strong; those under the footprint fade out."""
    x, y, footprint = (np.ascontiguousarray(column, np.float32) for column in (x, y, footprint))
    return _fractal_noise(x, y, coarsest_m, octaves, footprint, _LATTICE)


def stripes(x: np.ndarray, period: float, width: float, footprint: np.ndarray) -> np.ndarray:
    """Share of the footprint around x that lies in [0, width) modulo `period`: an exactly blurred stripe."""

    def covered(edge: np.ndarray) -> np.ndarray:
        cells = np.floor(edge / period)
        return cells * width + np.minimum(edge - cells * period, width)

    half = 0.5 * np.maximum(footprint, 1e-4)
    return (covered(x + half) - covered(x - half)) / (2 * half)


def interval(x: np.ndarray, low, high, footprint: np.ndarray) -> np.ndarray:
    """Share of the footprint around x that lies between `low` and `high`."""
    half = 0.5 * np.maximum(footprint, 1e-4)
    return np.clip((np.minimum(x + half, high) - np.maximum(x - half, low)) / (2 * half), 0.0, 1.0)


def cell_random(column: np.ndarray, row: np.ndarray, channel: int = 0) -> np.ndarray:
    """A random number in [0, 1) for each integer cell."""
    return hash01(np.floor(column) + 113.0 * np.floor(row) + 7919.0 * channel)


def hash01(number: np.ndarray) -> np.ndarray:
    """A random number in [0, 1) for each number, whole or not."""
    bits = np.ascontiguousarray(number, np.float32).view(np.uint32)
    bits = (bits ^ (bits >> np.uint32(16))) * np.uint32(0x7FEB352D)
    bits = (bits ^ (bits >> np.uint32(15))) * np.uint32(0x846CA68B)
    bits ^= bits >> np.uint32(16)
    return (bits >> np.uint32(8)).astype(np.float32) / np.float32(1 << 24)
