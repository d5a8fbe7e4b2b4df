"""triton kernel of Adam on touched rows. Of other rows, only the gradient is read."""

# pyright: reportOperatorIssue=false
# (a kernel's language looks like Python and has other types)

import triton
import triton.language as tl
from torch import Tensor

from blocknerf.kernels.launch_triton import blocks, launch

ROWS = 256


def step(
    table: Tensor,
    gradient: Tensor,
    first: Tensor,
    second: Tensor,
    rate: float,
    beta1: float,
    beta2: float,
    epsilon: float,
) -> None:
    levels, rows, features = table.shape
    launch(
        _step,
        (blocks(levels * rows, ROWS),),
        table,
        gradient,
        first,
        second,
        levels * rows,
        rate,
        beta1,
        1 - beta1,
        beta2,
        1 - beta2,
        epsilon,
        FEATURES=features,
        ROWS=ROWS,
    )


@triton.jit
def _step(
    table,
    gradient,
    first,
    second,
    rows,
    rate,
    keep1,
    take1,
    keep2,
    take2,
    epsilon,
    FEATURES: tl.constexpr,
    ROWS: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    place = row[:, None] * FEATURES + tl.arange(0, FEATURES)[None, :]
    grad = tl.load(gradient + place, mask=(row < rows)[:, None], other=0.0)
    touched = tl.max((grad != 0).to(tl.int32), axis=1) > 0
    if tl.max(touched.to(tl.int32), axis=0) > 0:
        wanted = touched[:, None]
        moment = keep1 * tl.load(first + place, mask=wanted, other=0.0) + take1 * grad
        square = keep2 * tl.load(second + place, mask=wanted, other=0.0) + take2 * grad * grad
        tl.store(first + place, moment, mask=wanted)
        tl.store(second + place, square, mask=wanted)
        old = tl.load(table + place, mask=wanted, other=0.0).to(tl.float32)
        tl.store(table + place, old - rate * moment / (tl.sqrt(square) + epsilon), mask=wanted)
        tl.store(gradient + place, 0.0, mask=wanted)
