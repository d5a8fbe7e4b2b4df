"""The hot loop of noise: octaves of a random lattice."""

import numpy as np

from blocknerf.kernels.jit.compiled import compiled

SIDE = 256


@compiled(nogil=True)
def _value_noise(x: float, y: float, lattice: np.ndarray) -> float:
    """Smooth noise in [-1, 1] with features of size 1, from a random lattice."""
    column, row = np.floor(x), np.floor(y)
    fx, fy = x - column, y - row
    fx, fy = fx * fx * (3 - 2 * fx), fy * fy * (3 - 2 * fy)
    x0, y0 = int(column) & (SIDE - 1), int(row) & (SIDE - 1)
    x1, y1 = (x0 + 1) & (SIDE - 1), (y0 + 1) & (SIDE - 1)
    low = lattice[y0, x0] * (1 - fx) + lattice[y0, x1] * fx
    high = lattice[y1, x0] * (1 - fx) + lattice[y1, x1] * fx
    return low * (1 - fy) + high * fy


@compiled(nogil=True)
def fractal_noise(x, y, coarsest_m, octaves, footprint, lattice):
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
