"""triton kernels of the hash encoding: a program takes a block of points through one level.

Programs of one level run one after the other, so that its part of the table stays in the second-level cache. Gradients
of rows are added atomically, each time in another order: on CUDA, two runs agree up to rounding, not bit for bit.
Tables may be float16; sums are always float32. Points are [3, points], encodings [levels features, points].
"""

# pyright: reportArgumentType=false, reportGeneralTypeIssues=false, reportOperatorIssue=false
# (a kernel's language looks like Python and has other types)

import triton
import triton.language as tl
from torch import Tensor

from blocknerf.kernels.launch_triton import blocks, launch

POINTS = 256  # of a program


def encode(points: Tensor, table: Tensor, resolutions: Tensor, encoded: Tensor) -> None:
    levels, rows, features = table.shape
    launch(
        _encode,
        (blocks(points.shape[1], POINTS), levels),
        points,
        table.contiguous(),
        resolutions,
        encoded,
        points.shape[1],
        rows,
        *points.stride(),
        *encoded.stride(),
        FEATURES=features,
        POINTS=POINTS,
    )


def encode_backward_table(points: Tensor, resolutions: Tensor, grad_encoded: Tensor, grad_table: Tensor) -> None:
    levels, rows, features = grad_table.shape
    launch(
        _encode_backward_table,
        (blocks(points.shape[1], POINTS), levels),
        points,
        resolutions,
        grad_encoded,
        grad_table,
        points.shape[1],
        rows,
        *points.stride(),
        *grad_encoded.stride(),
        FEATURES=features,
        POINTS=POINTS,
    )


def encode_backward_points(
    points: Tensor, table: Tensor, resolutions: Tensor, grad_encoded: Tensor, grad_points: Tensor
) -> None:
    levels, rows, features = table.shape
    launch(
        _encode_backward_points,
        (blocks(points.shape[1], POINTS),),
        points,
        table.contiguous(),
        resolutions,
        grad_encoded,
        grad_points,
        points.shape[1],
        levels,
        rows,
        *points.stride(),
        *grad_encoded.stride(),
        FEATURES=features,
        POINTS=POINTS,
    )


@triton.jit
def _cell(places, axis_stride, axis: tl.constexpr, valid, resolution):
    """Cell and fraction along one axis; points outside the cube are moved to its border."""
    value = tl.load(places + axis * axis_stride, mask=valid, other=0.0)
    scaled = tl.minimum(tl.maximum(value, 0.0), 1.0) * resolution.to(tl.float32)
    cell = tl.maximum(tl.minimum(scaled.to(tl.int32), (resolution - 1).to(tl.int32)), 0)  # of NaN, too
    return value, cell, scaled - cell.to(tl.float32)


@triton.jit
def _corner_row(x, y, z, resolution, rows, corner: tl.constexpr):
    """Bit 0 of the corner steps x, bit 1 y, bit 2 z."""
    side = resolution + 1
    x += corner & 1
    y += corner >> 1 & 1
    z += corner >> 2 & 1
    hashed = x.to(tl.uint32) ^ (y.to(tl.uint32) * 2654435761) ^ (z.to(tl.uint32) * 805459861)
    masked = (hashed & (rows - 1)).to(tl.int32)
    return tl.where(side * side * side <= rows, x + side.to(tl.int32) * (y + side.to(tl.int32) * z), masked)


@triton.jit
def _share(fraction, bit: tl.constexpr):
    return fraction if bit else 1.0 - fraction


@triton.jit
def _encode(
    points,
    table,
    resolutions,
    encoded,
    count,
    rows,
    axis_stride,
    point_stride,
    out_feature,
    out_point,
    FEATURES: tl.constexpr,
    POINTS: tl.constexpr,
):
    index = tl.program_id(0) * POINTS + tl.arange(0, POINTS)
    level = tl.program_id(1).to(tl.int64)
    feature = tl.arange(0, FEATURES)[None, :]
    valid = index < count
    resolution = tl.load(resolutions + level).to(tl.int64)
    places = points + index.to(tl.int64) * point_stride
    _, x, fx = _cell(places, axis_stride, 0, valid, resolution)
    _, y, fy = _cell(places, axis_stride, 1, valid, resolution)
    _, z, fz = _cell(places, axis_stride, 2, valid, resolution)
    base = table + level * rows * FEATURES
    total = tl.zeros((POINTS, FEATURES), tl.float32)
    for corner in tl.static_range(8):
        row = _corner_row(x, y, z, resolution, rows, corner)
        weight = _share(fx, corner & 1) * _share(fy, corner & 2) * _share(fz, corner & 4)
        values = tl.load(base + row[:, None] * FEATURES + feature, mask=valid[:, None], other=0.0)
        total += weight[:, None] * values.to(tl.float32)
    out = encoded + index.to(tl.int64)[:, None] * out_point + (level * FEATURES + feature) * out_feature
    tl.store(out, total, mask=valid[:, None])


@triton.jit
def _encode_backward_table(
    points,
    resolutions,
    grad_encoded,
    grad_table,
    count,
    rows,
    axis_stride,
    point_stride,
    grad_feature,
    grad_point,
    FEATURES: tl.constexpr,
    POINTS: tl.constexpr,
):
    index = tl.program_id(0) * POINTS + tl.arange(0, POINTS)
    level = tl.program_id(1).to(tl.int64)
    feature = tl.arange(0, FEATURES)[None, :]
    valid = index < count
    gradients = grad_encoded + index.to(tl.int64)[:, None] * grad_point + (level * FEATURES + feature) * grad_feature
    grad = tl.load(gradients, mask=valid[:, None], other=0.0)
    touches = tl.max(tl.abs(grad), axis=1) > 0
    resolution = tl.load(resolutions + level).to(tl.int64)
    places = points + index.to(tl.int64) * point_stride
    _, x, fx = _cell(places, axis_stride, 0, valid, resolution)
    _, y, fy = _cell(places, axis_stride, 1, valid, resolution)
    _, z, fz = _cell(places, axis_stride, 2, valid, resolution)
    base = grad_table + level * rows * FEATURES
    for corner in tl.static_range(8):
        row = _corner_row(x, y, z, resolution, rows, corner)
        weight = _share(fx, corner & 1) * _share(fy, corner & 2) * _share(fz, corner & 4)
        address = base + row[:, None] * FEATURES + feature
        tl.atomic_add(address, weight[:, None] * grad, mask=touches[:, None], sem="relaxed")


@triton.jit
def _encode_backward_points(
    points,
    table,
    resolutions,
    grad_encoded,
    grad_points,
    count,
    levels,
    rows,
    axis_stride,
    point_stride,
    grad_feature,
    grad_point,
    FEATURES: tl.constexpr,
    POINTS: tl.constexpr,
):
    index = tl.program_id(0) * POINTS + tl.arange(0, POINTS)
    feature = tl.arange(0, FEATURES)[None, :]
    valid = index < count
    places = points + index.to(tl.int64) * point_stride
    gradients = grad_encoded + index.to(tl.int64)[:, None] * grad_point + feature * grad_feature
    sum_x = tl.zeros((POINTS,), tl.float32)
    sum_y = tl.zeros((POINTS,), tl.float32)
    sum_z = tl.zeros((POINTS,), tl.float32)
    for level in range(levels):
        resolution = tl.load(resolutions + level).to(tl.int64)
        _, x, fx = _cell(places, axis_stride, 0, valid, resolution)
        _, y, fy = _cell(places, axis_stride, 1, valid, resolution)
        _, z, fz = _cell(places, axis_stride, 2, valid, resolution)
        grad = tl.load(gradients, mask=valid[:, None], other=0.0)
        scale = resolution.to(tl.float32)
        for corner in tl.static_range(8):
            row = _corner_row(x, y, z, resolution, rows, corner)
            values = tl.load(table + row[:, None] * FEATURES + feature, mask=valid[:, None], other=0.0)
            along = scale * tl.sum(values.to(tl.float32) * grad, axis=1)
            share_x, share_y, share_z = _share(fx, corner & 1), _share(fy, corner & 2), _share(fz, corner & 4)
            sum_x += along * share_y * share_z * (2 * (corner & 1) - 1)
            sum_y += along * share_x * share_z * (2 * (corner >> 1 & 1) - 1)
            sum_z += along * share_x * share_y * (2 * (corner >> 2 & 1) - 1)
        table += rows * FEATURES
        gradients += FEATURES * grad_feature
    out = grad_points + index.to(tl.int64)
    _store_inside(out, places, sum_x, valid)
    _store_inside(out + count, places + axis_stride, sum_y, valid)
    _store_inside(out + 2 * count, places + 2 * axis_stride, sum_z, valid)


@triton.jit
def _store_inside(out, place, grad, valid):
    """A coordinate that was moved to the border has no gradient."""
    value = tl.load(place, mask=valid, other=0.0)
    tl.store(out, tl.where((value >= 0) & (value <= 1), grad, 0.0), mask=valid)
