"""Plain numba does what SIMD code and the parallel loop do, for a numba whose private names are not known."""

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numba import njit

from blocknerf.kernels.jit import fast_math, numba_internals, parallel_for, plain_loops, simd_ir
from blocknerf.kernels.jit.plain_loops import GROUP, LANES

ROOT = Path(__file__).parents[2]
RNG = np.random.default_rng(0)
UNKNOWN_NUMBA = """
import numba
numba.__version__ = "0.99.0"
from pathlib import Path
from tests.support.golden_losses import losses, stored
found, golden = losses("hash", Path("{folder}")), stored()["losses"]["hash"]
for block, values in found.items():
    for loss, expected in zip(values, map(float.fromhex, golden[block]), strict=True):
        assert abs(loss - expected) <= 1e-5 * expected
"""


def uniform(*shape: int) -> np.ndarray:
    return RNG.uniform(0.1, 0.9, shape).astype(np.float32)


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


def located() -> tuple[Any, ...]:
    """Points inside, outside and nowhere, in cells of a level with 1024 rows."""
    points = np.random.default_rng(1).uniform(-0.2, 1.2, (3, GROUP)).astype(np.float32)
    points[:, 0] = np.nan
    return points, np.int32(9), np.int32(1023), np.zeros((8, GROUP), np.uint32), zeros(3, GROUP)


def rows_of_table(features: int) -> tuple[Any, ...]:
    rows = RNG.integers(0, 30, (8, GROUP)).astype(np.uint32)
    return uniform(2, 30, features), 30, rows, uniform(8, GROUP), 5, uniform(features, 7), 3, 7


def adam(features: int) -> tuple[Any, ...]:
    """Some rows have no gradient, and stay."""
    shape = (2 * LANES // features, features)
    gradient = uniform(*shape)
    gradient[::3] = 0
    numbers = (np.float32(number) for number in (0.01, 0.9, 0.1, 0.99, 0.01, 1e-8))
    return uniform(*shape), gradient, uniform(*shape), uniform(*shape), LANES, *numbers


CASES: dict[str, Callable[[], tuple[Any, ...]]] = {
    "locate_hashed": located,
    "locate_dense": located,
    "trilinear_weights": lambda: (uniform(3, GROUP), zeros(8, GROUP)),
    "gather_2": lambda: rows_of_table(2),
    "gather_4": lambda: rows_of_table(4),
    "scatter_add_2": lambda: rows_of_table(2),
    "scatter_add_4": lambda: rows_of_table(4),
    "adam_1": lambda: adam(1),
    "adam_2": lambda: adam(2),
    "adam_4": lambda: adam(4),
    "product": lambda: (uniform(5, 3), uniform(3, GROUP), zeros(5, GROUP)),
    "product_where": lambda: (uniform(5, 3), uniform(3, GROUP), uniform(5, GROUP) - np.float32(0.5), zeros(5, GROUP)),
    "affine": lambda: (uniform(5, 3), uniform(5), uniform(3, GROUP), zeros(5, GROUP)),
    "affine_rectified": lambda: (uniform(5, 3) - np.float32(0.5), uniform(5), uniform(3, GROUP), zeros(5, GROUP)),
    "add_outer_product": lambda: (uniform(5, GROUP), uniform(6, GROUP), uniform(5, 6)),
}


def _called(function: Any, arguments: tuple[Any, ...]) -> list[np.ndarray]:
    """All arrays as the function leaves them."""
    copies = tuple(value.copy() if isinstance(value, np.ndarray) else value for value in arguments)

    @njit(fastmath=True, error_model="numpy")  # as kernels are compiled
    def call(given):
        function(*given)

    call(copies)
    return [value for value in copies if isinstance(value, np.ndarray)]


@pytest.mark.parametrize("name", CASES)
def test_plain_loops_and_simd_code_agree(name):
    arguments = CASES[name]()
    plain, simd = (_called(getattr(module, name), arguments) for module in (plain_loops, simd_ir))
    assert any(not np.array_equal(after, before) for after, before in zip(simd, _arrays(arguments), strict=True))
    for plain_array, simd_array in zip(plain, simd, strict=True):
        np.testing.assert_allclose(plain_array, simd_array, rtol=2e-6, atol=1e-6)


def _arrays(arguments: tuple[Any, ...]) -> list[np.ndarray]:
    return [value for value in arguments if isinstance(value, np.ndarray)]


@pytest.mark.parametrize("nan", [np.nan, -np.nan])
def test_a_rectifier_lets_through_what_is_not_a_number(nan):
    values = uniform(3, GROUP)
    values[1, 7] = nan
    *_, out = _called(simd_ir.affine_rectified, (uniform(5, 3), uniform(5), values, zeros(5, GROUP)))
    assert np.isnan(out[:, 7]).all()
    assert np.isfinite(np.delete(out, 7, 1)).all()


def test_every_plain_loop_is_compared():
    public = {name for name, value in vars(plain_loops).items() if hasattr(value, "py_func") and name[0] != "_"}
    assert public == CASES.keys() | {"num_threads", "parallel_for", "whole_between"}


@pytest.mark.parametrize("x", [-3.0, 0.0, 0.7, 2.9, 3.0, 50.0])
def test_whole_numbers_are_the_same(x):
    @njit
    def both(x):
        return plain_loops.whole_between(x, 0, 3), fast_math.whole_between(x, 0, 3)

    assert len(set(both(x))) == 1
    for nowhere in (np.nan, np.inf, -np.inf, 1e30):
        assert set(both(nowhere)) <= {0, 1, 2, 3}


def test_the_loop_runs_over_the_whole_range():
    @plain_loops.worker_body
    def body(start, stop, seen):
        for i in range(start, stop):
            seen[i] += 1

    @njit
    def loop(seen):
        plain_loops.parallel_for(body, len(seen) - 1, (seen,))
        return plain_loops.num_threads()

    seen = np.zeros(8, np.int64)
    assert loop(seen) == 1
    assert seen.tolist() == [1] * 7 + [0]


def test_the_known_versions_are_those_that_are_installed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (bounds,) = (line for line in project["dependencies"] if line.startswith("numba"))
    known = numba_internals.FIRST_KNOWN, numba_internals.FIRST_UNKNOWN
    assert re.findall(r"\d+\.\d+", bounds) == [f"{major}.{minor}" for major, minor in known]
    assert numba_internals.IS_KNOWN
    assert parallel_for.parallel_for is not plain_loops.parallel_for


@pytest.mark.slow
def test_an_unknown_numba_trains_to_the_same_losses_and_is_named(tmp_path):
    """Nothing private is touched: it is another version from before the first import on."""
    code = UNKNOWN_NUMBA.format(folder=tmp_path)
    command = [sys.executable, "-W", "ignore", "-c", code]
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=one_thread, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "not written for numba 0.99.0. Run pip install 'numba>=0.61,<0.69'." in done.stderr
