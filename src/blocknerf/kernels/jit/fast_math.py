"""Elementary functions in plain arithmetic. A compiler vectorises a loop over them, but not one over numpy's."""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import float32, int32, types
from numba.extending import intrinsic

import blocknerf.kernels.jit.plain_loops as plain_loops
from blocknerf.kernels.jit.compiled import compiled
from blocknerf.kernels.jit.numba_internals import IS_KNOWN, frozen

_LOG2_E = np.float32(1.4426950408889634)
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440054690583e-4)  # of ln 2, the first bits exact
LOWEST, HIGHEST = np.float32(-87.0), np.float32(88.0)


def _typed(typing_context, bits):
    def code(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.int32), code


_as_float: Any = intrinsic(_typed)


def _whole_between(typing_context, x, low, high):
    def code(context, builder, signature, arguments):
        value, low, high = arguments
        whole = frozen(builder, builder.fptosi(value, ir.IntType(64)))
        whole = builder.select(builder.icmp_signed("<", whole, high), whole, high)
        return builder.select(builder.icmp_signed(">", whole, low), whole, low)

    return types.int64(x, types.int64, types.int64), code


whole_between: Any = intrinsic(_whole_between) if IS_KNOWN else plain_loops.whole_between
"""x without its fraction, an index from `low` to `high` whatever x is: NaN, infinite, beyond all integers."""


@compiled(kept=False, inline="always")
def exp(x):
    """e^x in float32, relative error below 4e-7 from LOWEST to HIGHEST; below, 0; above, the value at HIGHEST.

    x = n ln 2 + r with |r| <= ln 2 / 2 (Cody and Waite 1980, chapter 6), e^r by its series, 2^n by its bits.
    """
    inside = min(max(x, LOWEST), HIGHEST)
    n = np.floor(inside * _LOG2_E + float32(0.5))
    r = (inside - n * _LN2_HIGH) - n * _LN2_LOW
    series = float32(1 / 720) + r * float32(1 / 5040)
    series = float32(1 / 120) + r * series
    series = float32(1 / 24) + r * series
    series = float32(1 / 6) + r * series
    series = float32(1 / 2) + r * series
    value = (float32(1) + (r + r * r * series)) * _as_float(int32((int32(n) + int32(127)) << int32(23)))
    return value if x >= LOWEST else float32(0)


@compiled(kept=False, inline="always")
def sine_and_cosine(x):
    """Sine and cosine of 0 <= x <= pi / 2 in float32, by their series; errors below 2e-7."""
    square = x * x
    sine = float32(1 / 362880) - square * float32(1 / 39916800)
    sine = float32(-1 / 5040) + square * sine
    sine = float32(1 / 120) + square * sine
    sine = float32(-1 / 6) + square * sine
    cosine = float32(-1 / 3628800) + square * float32(1 / 479001600)
    cosine = float32(1 / 40320) + square * cosine
    cosine = float32(-1 / 720) + square * cosine
    cosine = float32(1 / 24) + square * cosine
    cosine = float32(-1 / 2) + square * cosine
    return x + x * square * sine, float32(1) + square * cosine
