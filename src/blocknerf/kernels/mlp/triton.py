"""triton kernels of a network with one hidden layer. A program takes tiles of points and keeps the hidden layer local.

Inputs and outputs are [channels, points]. A float32 product is three tf32 products, which agrees with float32 and still
runs in matrix units.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from blocknerf.kernels.launch_triton import blocks, launch, padded

POINTS = 64  # of a tile
WIDTH = 64  # hidden units at a time
LEAST = 16  # the smallest side of a matrix product


def forward(values: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor, out: Tensor) -> None:
    launch(
        _forward,
        (blocks(values.shape[1], POINTS),),
        values,
        weight1.contiguous(),
        bias1.contiguous(),
        weight2.contiguous(),
        bias2.contiguous(),
        out,
        *_sizes(values, weight1, weight2),
        *values.stride(),
        *out.stride(),
        **_tiles(weight1, weight2),
    )


def backward(
    values: Tensor,
    weight1: Tensor,
    bias1: Tensor,
    weight2: Tensor,
    grad_first: Tensor,
    grad_others: Tensor,
    grad_values: Tensor,
    grad1: Tensor,
    grad_bias1: Tensor,
    grad2: Tensor,
    grad_bias2: Tensor,
) -> None:
    """Computes the hidden layer again. grad1 ... hold one slab per program, which the caller sums in order."""
    grad_out = torch.cat([grad_first, grad_others])
    inputs = (values, weight1.contiguous(), bias1.contiguous(), weight2.contiguous(), grad_out)
    sizes = (*_sizes(values, weight1, weight2), *values.stride(), *grad_out.stride())
    tiles = _tiles(weight1, weight2)
    launch(
        _backward_values,
        (blocks(values.shape[1], POINTS),),
        *inputs,
        grad_values,
        *sizes,
        *grad_values.stride(),
        **tiles,
    )
    launch(
        _backward_weights,
        (len(grad1), blocks(len(weight1), WIDTH)),
        *inputs,
        grad1,
        grad_bias1,
        grad2,
        grad_bias2,
        *sizes,
        **tiles | {"POINTS": POINTS // 2},  # its sums take the registers of the other half
        num_warps=8,
    )


def _sizes(values: Tensor, weight1: Tensor, weight2: Tensor) -> tuple[int, int, int, int]:
    return values.shape[1], weight1.shape[1], weight1.shape[0], weight2.shape[0]


def _tiles(weight1: Tensor, weight2: Tensor) -> dict[str, int]:
    inputs, outputs = padded(weight1.shape[1], LEAST), padded(weight2.shape[0], LEAST)
    return {"INPUTS": inputs, "OUTPUTS": outputs, "POINTS": POINTS, "WIDTH": WIDTH}


@triton.jit
def _matrix(matrix, row, column, rows, columns, row_stride, column_stride):
    """A tile, with zeros outside the matrix."""
    place = matrix + row.to(tl.int64)[:, None] * row_stride + column[None, :] * column_stride
    return tl.load(place, mask=(row < rows)[:, None] & (column < columns)[None, :], other=0.0)


@triton.jit
def _product(left, right):
    return tl.dot(left, right, input_precision="tf32x3")


@triton.jit
def _hidden(x, weight1, bias1, unit, input, inputs, width):
    """Rectified units of a tile of points."""
    weight = _matrix(weight1, input, unit, inputs, width, 1, inputs)
    bias = tl.load(bias1 + unit, mask=unit < width, other=0.0)
    return tl.maximum(_product(x, weight) + bias[None, :], 0.0)


@triton.jit
def _forward(
    values,
    weight1,
    bias1,
    weight2,
    bias2,
    out,
    count,
    inputs,
    width,
    outputs,
    value_input,
    value_point,
    out_output,
    out_point,
    INPUTS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    POINTS: tl.constexpr,
    WIDTH: tl.constexpr,
):
    point = tl.program_id(0) * POINTS + tl.arange(0, POINTS)
    input, output = tl.arange(0, INPUTS), tl.arange(0, OUTPUTS)
    x = _matrix(values, point, input, count, inputs, value_point, value_input)
    bias = tl.load(bias2 + output, mask=output < outputs, other=0.0)
    y = tl.zeros((POINTS, OUTPUTS), tl.float32) + bias[None, :]
    for begin in range(0, width, WIDTH):
        unit = begin + tl.arange(0, WIDTH)
        hidden = _hidden(x, weight1, bias1, unit, input, inputs, width)
        y += _product(hidden, _matrix(weight2, unit, output, width, outputs, 1, width))
    place = out + point.to(tl.int64)[:, None] * out_point + output[None, :] * out_output
    tl.store(place, y, mask=(point < count)[:, None] & (output < outputs)[None, :])


@triton.jit
def _backward_values(
    values,
    weight1,
    bias1,
    weight2,
    grad_out,
    grad_values,
    count,
    inputs,
    width,
    outputs,
    value_input,
    value_point,
    grad_output,
    grad_point,
    into_input,
    into_point,
    INPUTS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    POINTS: tl.constexpr,
    WIDTH: tl.constexpr,
):
    point = tl.program_id(0) * POINTS + tl.arange(0, POINTS)
    input, output = tl.arange(0, INPUTS), tl.arange(0, OUTPUTS)
    x = _matrix(values, point, input, count, inputs, value_point, value_input)
    grad = _matrix(grad_out, point, output, count, outputs, grad_point, grad_output)
    total = tl.zeros((POINTS, INPUTS), tl.float32)
    for begin in range(0, width, WIDTH):
        unit = begin + tl.arange(0, WIDTH)
        hidden = _hidden(x, weight1, bias1, unit, input, inputs, width)
        reached = _product(grad, _matrix(weight2, output, unit, outputs, width, width, 1))
        reached = tl.where(hidden > 0, reached, 0.0)
        total += _product(reached, _matrix(weight1, unit, input, width, inputs, inputs, 1))
    place = grad_values + point.to(tl.int64)[:, None] * into_point + input[None, :] * into_input
    tl.store(place, total, mask=(point < count)[:, None] & (input < inputs)[None, :])


@triton.jit
def _backward_weights(
    values,
    weight1,
    bias1,
    weight2,
    grad_out,
    grad1,
    grad_bias1,
    grad2,
    grad_bias2,
    count,
    inputs,
    width,
    outputs,
    value_input,
    value_point,
    grad_output,
    grad_point,
    INPUTS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    POINTS: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """A program sums every n-th tile for some hidden units, and writes its own slab."""
    slab, slabs = tl.program_id(0), tl.num_programs(0)
    input, output = tl.arange(0, INPUTS), tl.arange(0, OUTPUTS)
    unit = tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)
    into1 = tl.zeros((WIDTH, INPUTS), tl.float32)
    into2 = tl.zeros((OUTPUTS, WIDTH), tl.float32)
    into_bias1 = tl.zeros((WIDTH,), tl.float32)
    into_bias2 = tl.zeros((OUTPUTS,), tl.float32)
    back = _matrix(weight2, output, unit, outputs, width, width, 1)
    for begin in range(slab * POINTS, count, slabs * POINTS):
        point = begin + tl.arange(0, POINTS)
        x = _matrix(values, point, input, count, inputs, value_point, value_input)
        grad = _matrix(grad_out, point, output, count, outputs, grad_point, grad_output)
        hidden = _hidden(x, weight1, bias1, unit, input, inputs, width)
        reached = tl.where(hidden > 0, _product(grad, back), 0.0)
        into1 += _product(tl.trans(reached), x)
        into2 += _product(tl.trans(grad), hidden)
        into_bias1 += tl.sum(reached, axis=0)
        into_bias2 += tl.sum(grad, axis=0)
    of_unit, of_output = unit < width, output < outputs
    place = grad1 + slab * width * inputs + unit[:, None] * inputs + input[None, :]
    tl.store(place, into1, mask=of_unit[:, None] & (input < inputs)[None, :])
    place = grad2 + slab * outputs * width + output[:, None] * width + unit[None, :]
    tl.store(place, into2, mask=of_output[:, None] & of_unit[None, :])
    tl.store(grad_bias1 + slab * width + unit, into_bias1, mask=of_unit)
    if tl.program_id(1) == 0:
        tl.store(grad_bias2 + slab * outputs + output, into_bias2, mask=of_output)
