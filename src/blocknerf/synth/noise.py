"""Procedural patterns with antialiasing: each takes the footprint of a sample and is blurred by it."""

import numpy as np

from blocknerf.synth import noise_numba

_LATTICE = np.random.default_rng(20220607).uniform(-1.0, 1.0, (noise_numba.SIDE, noise_numba.SIDE)).astype(np.float32)


def fractal_noise(x: np.ndarray, y: np.ndarray, coarsest_m: float, octaves: int, footprint: np.ndarray) -> np.ndarray:
    """Octaves [N] from `coarsest_m` down, each half as large and 0.6 as strong. Those below the footprint fade out."""
    x, y, footprint = (np.ascontiguousarray(column, np.float32) for column in (x, y, footprint))
    return noise_numba.fractal_noise(x, y, coarsest_m, octaves, footprint, _LATTICE)


def stripes(x: np.ndarray, period: float, width: float, footprint: np.ndarray) -> np.ndarray:
    """Share of the footprint around x within [0, width) modulo `period`: an exactly blurred stripe."""

    def covered(edge: np.ndarray) -> np.ndarray:
        cells = np.floor(edge / period)
        return cells * width + np.minimum(edge - cells * period, width)

    half = 0.5 * np.maximum(footprint, 1e-4)
    return (covered(x + half) - covered(x - half)) / (2 * half)


def interval(x: np.ndarray, low, high, footprint: np.ndarray) -> np.ndarray:
    """Share of the footprint around x between `low` and `high`."""
    half = 0.5 * np.maximum(footprint, 1e-4)
    return np.clip((np.minimum(x + half, high) - np.maximum(x - half, low)) / (2 * half), 0.0, 1.0)


def cell_random(column: np.ndarray, row: np.ndarray, channel: int = 0) -> np.ndarray:
    """A random number in [0, 1) for each integer cell."""
    return hash01(np.floor(column) + 113.0 * np.floor(row) + 7919.0 * channel)


def hash01(number: np.ndarray) -> np.ndarray:
    """A random number in [0, 1) for each number, integer or not."""
    bits = np.ascontiguousarray(number, np.float32).view(np.uint32)
    bits = (bits ^ (bits >> np.uint32(16))) * np.uint32(0x7FEB352D)
    bits = (bits ^ (bits >> np.uint32(15))) * np.uint32(0x846CA68B)
    bits ^= bits >> np.uint32(16)
    return (bits >> np.uint32(8)).astype(np.float32) / np.float32(1 << 24)
