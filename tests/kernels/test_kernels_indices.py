"""Whatever numbers arrive, no compiled function reads or writes outside of its arrays.

numba checks indices where NUMBA_BOUNDSCHECK=1, which is read when it is imported: the last test runs the others so.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from numba import njit

from blocknerf.blocks import cells_numba
from blocknerf.export import agreement_numba, fusion_numba
from blocknerf.kernels.compositing import numba as compositing_numba
from blocknerf.kernels.hash_grid import numba as hash_grid_numba
from blocknerf.kernels.histograms import numba as histograms_numba
from blocknerf.kernels.jit.compiled import CHECKS_INDICES
from blocknerf.kernels.jit.fast_math import whole_between
from blocknerf.kernels.jit.parallel_for import I1, I8, kernel, parallel_for, worker_body
from blocknerf.kernels.jit.simd_ir import GROUP, locate_dense, locate_hashed
from blocknerf.kernels.log_density import numba as log_density_numba
from blocknerf.kernels.marching import numba as marching_numba
from blocknerf.kernels.mlp import numba as mlp_numba
from blocknerf.kernels.proposal import numba as proposal_numba
from blocknerf.kernels.sparse_adam import numba as sparse_adam_numba
from blocknerf.kernels.splats import numba as splats_numba
from blocknerf.scene import radii_numba, sampler_numba
from blocknerf.synth import noise_numba

HOSTILE = (np.nan, np.inf, -np.inf, 1e39, -1e39, 1e300, -3e9)
RAYS, SAMPLES = 5, 4


def uniform(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    return np.random.default_rng(0).uniform(0.1, 0.9, shape).astype(dtype)


doubles = partial(uniform, dtype=np.float64)


def whole(*values: Any) -> np.ndarray:
    return np.array(values, np.int64)


def edges() -> np.ndarray:
    return uniform(RAYS, SAMPLES + 1).cumsum(1)


def ends() -> np.ndarray:
    return np.sort(uniform(RAYS, 2), axis=1)


def rays() -> tuple[np.ndarray, ...]:
    return uniform(RAYS, 3), uniform(RAYS, 3), edges()


def along(*shape: int) -> np.ndarray:
    return uniform(*shape, RAYS, SAMPLES)


def cells() -> tuple[Any, ...]:
    """Four cells in a table of 2 x 2 bins."""
    centers = np.array([[0.5, 0.5], [0.5, 1.5], [1.5, 0.5], [1.5, 1.5]])
    return centers, True, np.zeros(2), 1.0, whole(2, 2), whole(0, 1, 2, 3, 4), whole(0, 1, 2, 3)


def pictures() -> tuple[Any, ...]:
    """Two of 3 x 4 pixels that look along z."""
    poses = np.repeat(np.eye(4)[None, :3], 2, 0)
    return whole(0, 1), poses, np.array([2.0, 2.0]), whole([4, 3], [4, 3]), whole(0, 12)


def positions() -> tuple[Any, ...]:
    bytes_ = np.zeros(0, np.uint8), np.zeros((0, 2, 2), np.bool_)
    return whole(0, 12), whole(0), whole(4), whole(3), *bytes_, 0.5, np.zeros(4, np.int64), np.zeros(4, np.int64)


def pixels() -> tuple[Any, ...]:
    return (
        *(whole(0, 0), whole(3, 11), whole(3, 11), whole(0), whole(4), whole(3), doubles(1, 3, 4)),
        *(np.zeros((12, 3), np.uint8), uniform(12, 3), uniform(12, 3), uniform(12), whole(0)),
        *(uniform(2, 3), uniform(2, 3), uniform(2), uniform(2, 3), uniform(2, 2), uniform(2)),
    )


def splats() -> tuple[np.ndarray, ...]:
    return uniform(6, 2) * 8, uniform(6, 3) * np.float32([1, 0.1, 1]), uniform(6, 3), uniform(6)


def layers() -> tuple[np.ndarray, ...]:
    return uniform(8, 3), uniform(8), uniform(2, 8), uniform(2)


def slabs() -> tuple[np.ndarray, ...]:
    return uniform(8, 8, 3), uniform(8, 8), uniform(8, 2, 8), uniform(8, 2)


def fused() -> tuple[np.ndarray, ...]:
    brick = doubles(2, 2, 2), doubles(2, 2, 2), doubles(2, 2, 2, 3), doubles(2, 2, 2)
    return uniform(24), doubles(24), doubles(24), uniform(24, 3), *brick


CALLS: dict[str, tuple[Any, Callable[[], tuple[Any, ...]]]] = {
    "density": (proposal_numba.density, lambda: (*rays(), uniform(3, 3, 3), along())),
    "density_backward": (proposal_numba.density_backward, lambda: (*rays(), along(), along(), 3, uniform(27))),
    "distances": (marching_numba.s_to_t, lambda: (*rays(), ends(), np.float32(1e-3), edges())),
    "unit_cube_points": (marching_numba.unit_cube_points, lambda: (*rays(), along(3))),
    "unit_cube_points_backward": (
        marching_numba.unit_cube_points_backward,
        lambda: (*rays(), along(3), uniform(RAYS, 3), uniform(RAYS, 3)),
    ),
    "resample": (histograms_numba.resample, lambda: (edges(), along(), uniform(RAYS), 0.01, uniform(RAYS, 3))),
    "interlevel": (
        histograms_numba.interlevel,
        lambda: (edges(), along(), edges(), along(), 1e-5, uniform(RAYS), along()),
    ),
    "distortion": (histograms_numba.distortion, lambda: (edges(), along(), uniform(RAYS), along())),
    "weights": (compositing_numba.weights, lambda: (along(), edges(), along())),
    "weights_backward": (compositing_numba.weights_backward, lambda: (along(), edges(), along(), along(), along())),
    "accumulate": (compositing_numba.accumulate, lambda: (along(), along(3), uniform(RAYS, 3))),
    "accumulate_backward": (
        compositing_numba.accumulate_backward,
        lambda: (along(), along(3), uniform(RAYS, 3), along(), along(3)),
    ),
    "encode": (hash_grid_numba.encode, lambda: (uniform(3, 70), uniform(2, 64, 4), whole(2, 16), uniform(8, 70))),
    "encode_backward_table": (
        hash_grid_numba.encode_backward_table,
        lambda: (uniform(3, 70), whole(2, 16), uniform(4, 70), uniform(2, 64, 2)),
    ),
    "encode_backward_points": (
        hash_grid_numba.encode_backward_points,
        lambda: (uniform(3, 70), uniform(2, 64, 2), whole(2, 16), uniform(4, 70), uniform(3, 70)),
    ),
    "forward": (mlp_numba.forward, lambda: (uniform(3, 70), *layers(), uniform(2, 70))),
    "backward": (
        mlp_numba.backward,
        lambda: (uniform(3, 70), *layers()[:3], uniform(1, 70), uniform(1, 70), uniform(3, 70), *slabs()),
    ),
    "forward_three": (
        mlp_numba.forward_three,
        lambda: (uniform(3, 70), *layers(), uniform(4, 2), uniform(4), uniform(4, 70)),
    ),
    "backward_three": (
        mlp_numba.backward_three,
        lambda: (
            *(uniform(3, 70), *layers(), uniform(4, 2), uniform(4, 70), uniform(3, 70), *slabs()),
            *(uniform(8, 4, 2), uniform(8, 4)),
        ),
    ),
    "density_of_its_logarithm": (log_density_numba.density, lambda: (uniform(70), -1.0, 12.0, uniform(70))),
    "density_of_its_logarithm_backward": (
        log_density_numba.density_backward,
        lambda: (uniform(70), -1.0, 12.0, uniform(70), uniform(70), uniform(70)),
    ),
    "step": (
        sparse_adam_numba.step,
        lambda: (uniform(1, 17, 3), uniform(1, 17, 3), uniform(1, 17, 3), uniform(1, 17, 3), 0.01, 0.9, 0.99, 1e-15),
    ),
    "splats": (splats_numba.forward, lambda: (*splats(), uniform(4, 9, 7))),
    "splats_backward": (splats_numba.backward, lambda: (*splats(), uniform(4, 9, 7), uniform(4, 9, 7), uniform(6, 9))),
    "nearest_cells": (
        cells_numba.nearest_cells,
        lambda: (doubles(3, 2) * 2, 5.0, *cells(), np.zeros(3, np.int64), np.zeros(3)),
    ),
    "cells_within": (
        cells_numba.cells_within,
        lambda: (doubles(3, 2) * 2, 1.0, *cells(), np.zeros(9, np.int64), np.zeros(9, np.int64)),
    ),
    "frustum_places": (
        cells_numba.frustum_places,
        lambda: (
            *(whole(0, 1), whole(0, 0), uniform(4, 3), whole(0, 4), doubles(2, 3, 4), doubles(2), doubles(3, 3)),
            *(doubles(3), np.zeros(2), np.ones(2), np.zeros((8, 3))),
        ),
    ),
    "count_agreeing": (
        agreement_numba.count_agreeing,
        lambda: (doubles(5, 3), *pictures(), uniform(24), 0.1, np.zeros(5, np.int64), np.zeros(5, np.int64)),
    ),
    "fuse": (
        fusion_numba.fuse,
        lambda: (
            *(np.array([-0.2, -0.2, 1.0]), 0.2, 0.5, np.zeros((2, 2, 2), np.int64), *pictures(), whole(0, 0)),
            *fused(),
        ),
    ),
    "picture_radii": (radii_numba.picture_radii, lambda: (uniform(12, 3), 4, 3)),
    "draw": (sampler_numba.draw, lambda: (0, np.ones(4, np.uint64), 0, 0, *positions())),
    "gather_pixels": (sampler_numba.gather_pixels, pixels),
    "fractal_noise": (
        noise_numba.fractal_noise,
        lambda: (uniform(5), uniform(5), 8.0, 3, uniform(5), uniform(256, 256)),
    ),
}


def spoiled(argument: Any, value: float) -> Any:
    """The number, or every other one of an array, is `value`."""
    with np.errstate(over="ignore"):
        if not isinstance(argument, np.ndarray):
            return type(argument)(value)
        argument.reshape(-1)[::2] = np.array(value).astype(argument.dtype)
        return argument


def is_real(argument: Any) -> bool:
    return argument.dtype.kind == "f" if isinstance(argument, np.ndarray) else isinstance(argument, float | np.floating)


@pytest.mark.parametrize("name", CALLS)
def test_no_number_leads_outside_of_an_array(name):
    function, arguments = CALLS[name]
    function(*arguments())
    reals = [number for number, argument in enumerate(arguments()) if is_real(argument)]
    for value in HOSTILE:
        for chosen in [*([number] for number in reals), reals]:
            function(*(spoiled(each, value) if n in chosen else each for n, each in enumerate(arguments())))


@njit
def _locate(points, resolution, mask, corners, fractions):
    locate_hashed(points, resolution, mask, corners[0], fractions)
    locate_dense(points, resolution, mask, corners[1], fractions)


def test_no_point_lies_outside_of_its_table():
    """Rows are read and written where numba looks at no index."""
    points, corners = np.zeros((3, GROUP), np.float32), np.zeros((2, 8, GROUP), np.int32)
    with np.errstate(over="ignore"):
        points.reshape(-1)[:] = np.resize(np.array([*HOSTILE, 0.2, 1.0, 1.5, -0.1]), points.size).astype(np.float32)
    _locate(points, np.int32(3), np.int32(63), corners, np.zeros((3, GROUP), np.float32))
    assert corners.min() >= 0
    assert corners.max() <= 63


@njit
def _between(values, low, high, out):
    for i in range(len(values)):
        out[i] = whole_between(values[i], low, high)


@njit(fastmath=True)
def _between_fast(values, low, high, out):
    for i in range(len(values)):
        out[i] = whole_between(min(max(values[i], 0.0), 1.0) * (high + 1), low, high)


@pytest.mark.parametrize("count", [1, 33])
def test_an_index_is_one_whatever_it_comes_from(count):
    """The compiler may take it that numbers are finite, and leave out a comparison that then has nothing to do."""
    values, out = np.resize(np.array([*HOSTILE, 0.2, 5.7, 0.99]), 10 * count), np.zeros(10 * count, np.int64)
    _between(values, 0, 5, out)
    assert out[7:10].tolist() == [0, 5, 0]
    assert set(out.tolist()) <= {*range(6)}
    _between_fast(values, 0, 5, out)
    assert out[7:10].tolist() == [1, 5, 5]
    assert set(out.tolist()) <= {*range(6)}


@worker_body
def _beyond(start, stop, out):
    for i in range(start, stop + 1):
        out[i] = 1


@kernel(I8, I1)
def beyond(size, out):
    parallel_for(_beyond, size, (out,))


@pytest.mark.skipif(not CHECKS_INDICES, reason="numba was started without NUMBA_BOUNDSCHECK=1")
def test_an_index_outside_of_an_array_is_said_here():
    with pytest.raises(IndexError, match="outside"):
        beyond(3, np.zeros(3, np.int64))


@pytest.mark.skipif(CHECKS_INDICES, reason="this is that run")
def test_with_every_index_checked(tmp_path):
    environment = os.environ | {"NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rs", __file__]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "1 skipped" in done.stdout
