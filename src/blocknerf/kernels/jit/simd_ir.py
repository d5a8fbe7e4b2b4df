"""Inner loops written as vectors for numba: cells and rows of a table, and small matrix products.

The same loops in Python compile to code that is two to five times slower, after seconds of compilation. Arrays are
contiguous and indexed flat. Points are in groups of `GROUP`, and every array of a group has a row for each coordinate,
corner or feature.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

import blocknerf.kernels.jit.plain_loops as plain_loops
from blocknerf.kernels.jit.numba_internals import IS_KNOWN, array_struct, cgutils, cpu_features, frozen
from blocknerf.kernels.jit.plain_loops import GROUP, LANES, PRIME_Y, PRIME_Z

HAS_32_REGISTERS = "+avx512vl" in cpu_features()
"""For vectors. With 16, as AVX2 has them, the blocks of a product are half as large: what does not fit is stored and
loaded again in every turn of the innermost loop, which takes most of its time."""
_FLOAT, _INT32, _INT64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)


class _Code:
    """A builder of code for the functions below, with vectors of `lanes` numbers."""

    def __init__(self, context: Any, builder: Any, signature: Any, arguments: Sequence[Any]):
        self.context, self.builder = context, builder
        self.types, self.arguments = signature.args, arguments

    def pointer(self, argument: int) -> Any:
        return self.array(argument).data

    def array(self, argument: int) -> Any:
        return array_struct(self.context, self.builder, self.types[argument], self.arguments[argument])

    def size(self, argument: int, axis: int) -> Any:
        return cgutils.unpack_tuple(self.builder, self.array(argument).shape)[axis]

    def index(self, value: int) -> Any:
        return ir.Constant(_INT64, value)

    def add(self, *values: Any) -> Any:
        total = values[0]
        for value in values[1:]:
            total = self.builder.add(total, value)
        return total

    def times(self, value: Any, by: Any) -> Any:
        return self.builder.mul(value, by if isinstance(by, ir.Value) else self.index(by))

    def vector_at(self, pointer: Any, at: Any, lanes: int, kind: Any = _FLOAT) -> Any:
        return self.builder.bitcast(self.builder.gep(pointer, [at]), ir.VectorType(kind, lanes).as_pointer())

    def load(self, pointer: Any, at: Any, lanes: int) -> Any:
        return self.builder.load(self.vector_at(pointer, at, lanes), align=4)

    def store(self, value: Any, pointer: Any, at: Any) -> None:
        kind = value.type
        self.builder.store(value, self.vector_at(pointer, at, kind.count, kind.element), align=4)

    def scalar(self, pointer: Any, at: Any) -> Any:
        return self.builder.load(self.builder.gep(pointer, [at]))

    def broadcast(self, value: Any, lanes: int) -> Any:
        """The value in every lane."""
        nothing = ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined)
        first = self.builder.insert_element(nothing, value, ir.Constant(_INT32, 0))
        return self.builder.shuffle_vector(first, nothing, ir.Constant(ir.VectorType(_INT32, lanes), [0] * lanes))

    def constant(self, value: float | int, lanes: int, kind: Any = _FLOAT) -> Any:
        return ir.Constant(ir.VectorType(kind, lanes), [value] * lanes)

    def multiply_add(self, one: Any, other: Any, total: Any) -> Any:
        product = self.builder.fmul(one, other, flags=("contract",))
        return self.builder.fadd(total, product, flags=("contract",))

    def root(self, value: Any) -> Any:
        kind = ir.FunctionType(value.type, [value.type])
        name = f"llvm.sqrt.v{value.type.count}f32"
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, kind, name), [value])

    def variable(self, lanes: int) -> Any:
        return cgutils.alloca_once(self.builder, ir.VectorType(_FLOAT, lanes))


def _built_in(code: Callable[[_Code], None], *arguments: Any) -> Any:
    """What numba needs for a function that returns nothing and whose code is built into the caller."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        code(_Code(context, builder, signature, values))
        return context.get_dummy_value()

    return types.void(*arguments), generate


def built_in(function: Callable[..., Any]) -> Any:
    """numba's `intrinsic`; with an unknown version of numba, the plain loop of the same name."""
    return intrinsic(function) if IS_KNOWN else getattr(plain_loops, function.__name__)


# --- cells ----------------------------------------------------------------------------------------------------------


@built_in
def locate_hashed(typing_context, points, resolution, mask, corners, fractions):
    """Rows (int32 [8, GROUP]) of the corners of each point's cell, and where in it the point is ([3, GROUP]).

    points: [3, GROUP] in [0, 1]; others get some cell too. resolution: cells per edge, int32; mask: rows of the
    level - 1, int32. Bit 0 of a corner steps along x, bit 1 along y, bit 2 along z.
    """
    return _built_in(lambda code: _locate(code, hashed=True), points, resolution, mask, corners, fractions)


@built_in
def locate_dense(typing_context, points, resolution, mask, corners, fractions):
    """Like `locate_hashed`, for a level with a row for every corner."""
    return _built_in(lambda code: _locate(code, hashed=False), points, resolution, mask, corners, fractions)


def _locate(code: _Code, hashed: bool) -> None:
    builder, (_, resolution, mask, _, _) = code.builder, code.arguments
    points, corners, fractions = code.pointer(0), code.pointer(3), code.pointer(4)
    scale = code.broadcast(builder.sitofp(resolution, _FLOAT), LANES)
    last = code.broadcast(builder.sub(resolution, ir.Constant(_INT32, 1)), LANES)
    first = code.constant(0, LANES, _INT32)
    side = builder.add(resolution, ir.Constant(_INT32, 1))
    one = ir.Constant(_INT32, 1)
    steps = (one, side, builder.mul(side, side))
    if hashed:
        steps = (one, ir.Constant(_INT32, PRIME_Y), ir.Constant(_INT32, PRIME_Z))
    steps = [code.broadcast(step, LANES) for step in steps]
    mask = code.broadcast(mask, LANES)
    for begin in range(0, GROUP, LANES):
        low = []
        for axis in range(3):
            scaled = builder.fmul(code.load(points, code.index(axis * GROUP + begin), LANES), scale)
            cell = frozen(builder, builder.fptosi(scaled, ir.VectorType(_INT32, LANES)))
            cell = builder.select(builder.icmp_signed("<", cell, last), cell, last)
            cell = builder.select(builder.icmp_signed(">", cell, first), cell, first)
            fraction = builder.fsub(scaled, builder.sitofp(cell, ir.VectorType(_FLOAT, LANES)))
            code.store(fraction, fractions, code.index(axis * GROUP + begin))
            low.append(builder.mul(cell, steps[axis]))
        ends = [(start, builder.add(start, step)) for start, step in zip(low, steps, strict=True)]
        for corner in range(8):
            x, y, z = (ends[axis][corner >> axis & 1] for axis in range(3))
            join = builder.xor if hashed else builder.add
            row = join(join(x, y), z)
            code.store(builder.and_(row, mask) if hashed else row, corners, code.index(corner * GROUP + begin))


@built_in
def trilinear_weights(typing_context, fractions, weights):
    """Trilinear weights of the corners, [8, GROUP], from where a point is in its cell, [3, GROUP]."""
    return _built_in(_trilinear_weights, fractions, weights)


def _trilinear_weights(code: _Code) -> None:
    builder, fractions, weights = code.builder, code.pointer(0), code.pointer(1)
    one = code.constant(1.0, LANES)
    for begin in range(0, GROUP, LANES):
        shares = []
        for axis in range(3):
            fraction = code.load(fractions, code.index(axis * GROUP + begin), LANES)
            shares.append((builder.fsub(one, fraction), fraction))
        for corner in range(8):
            x, y, z = (shares[axis][corner >> axis & 1] for axis in range(3))
            code.store(builder.fmul(builder.fmul(x, y), z), weights, code.index(corner * GROUP + begin))


# --- rows of a table ------------------------------------------------------------------------------------------------


@built_in
def gather_2(typing_context, table, first, rows, weights, g, out, at, stride):
    """out[at + f stride] = sum over corners of weight times feature f of row `first` + rows, of point g of a group.

    Rows of 2 features; rows, weights: [8, GROUP]; first, g, at, stride: int64.
    """
    return _built_in(lambda code: _gather(code, 2), table, first, rows, weights, g, out, at, stride)


@built_in
def gather_4(typing_context, table, first, rows, weights, g, out, at, stride):
    """Like `gather_2`, for rows of 4 features."""
    return _built_in(lambda code: _gather(code, 4), table, first, rows, weights, g, out, at, stride)


@built_in
def scatter_add_2(typing_context, table, first, rows, weights, g, gradient, at, stride):
    """Each corner's row += its weight times gradient[at + f stride]; see `gather_2`."""
    return _built_in(lambda code: _scatter_add(code, 2), table, first, rows, weights, g, gradient, at, stride)


@built_in
def scatter_add_4(typing_context, table, first, rows, weights, g, gradient, at, stride):
    """Like `scatter_add_2`, for rows of 4 features."""
    return _built_in(lambda code: _scatter_add(code, 4), table, first, rows, weights, g, gradient, at, stride)


def _corners(code: _Code, features: int) -> Iterator[tuple[Any, Any]]:
    """The offset of each corner's row, in numbers, and its weight in every lane."""
    rows, weights, first, g = code.pointer(2), code.pointer(3), code.arguments[1], code.arguments[4]
    for corner in range(8):
        at = code.add(g, code.index(corner * GROUP))
        row = code.add(first, code.builder.zext(code.scalar(rows, at), _INT64))
        yield code.times(row, features), code.broadcast(code.scalar(weights, at), features)


def _gather(code: _Code, features: int) -> None:
    table, out, (at, stride) = code.pointer(0), code.pointer(5), code.arguments[6:]
    total = code.constant(0.0, features)
    for row, weight in _corners(code, features):
        total = code.multiply_add(weight, code.load(table, row, features), total)
    for f in range(features):
        place = code.builder.gep(out, [code.add(at, code.times(stride, f))])
        code.builder.store(code.builder.extract_element(total, ir.Constant(_INT32, f)), place)


def _scatter_add(code: _Code, features: int) -> None:
    table, gradient, (at, stride) = code.pointer(0), code.pointer(5), code.arguments[6:]
    vector = code.constant(0.0, features)
    for f in range(features):
        value = code.scalar(gradient, code.add(at, code.times(stride, f)))
        vector = code.builder.insert_element(vector, value, ir.Constant(_INT32, f))
    for row, weight in _corners(code, features):
        code.store(code.multiply_add(weight, vector, code.load(table, row, features)), table, row)


@built_in
def adam_1(typing_context, table, gradient, first, second, at, rate, keep1, take1, keep2, take2, epsilon):
    """Adam on LANES numbers from `at` (int64), in rows of 1 feature whose gradient is not 0; sets it to 0.

    first, second: the moments; keep1, keep2: betas; take1, take2: 1 - beta. All float32, without bias correction, which
    is in `rate`.
    """
    given = (table, gradient, first, second, at, rate, keep1, take1, keep2, take2, epsilon)
    return _built_in(lambda code: _adam(code, 1), *given)


@built_in
def adam_2(typing_context, table, gradient, first, second, at, rate, keep1, take1, keep2, take2, epsilon):
    """Like `adam_1`, for rows of 2 features."""
    given = (table, gradient, first, second, at, rate, keep1, take1, keep2, take2, epsilon)
    return _built_in(lambda code: _adam(code, 2), *given)


@built_in
def adam_4(typing_context, table, gradient, first, second, at, rate, keep1, take1, keep2, take2, epsilon):
    """Like `adam_1`, for rows of 4 features."""
    given = (table, gradient, first, second, at, rate, keep1, take1, keep2, take2, epsilon)
    return _built_in(lambda code: _adam(code, 4), *given)


def _adam(code: _Code, features: int) -> None:
    builder, (table, gradient, first, second), at = code.builder, map(code.pointer, range(4)), code.arguments[4]
    slope = code.load(gradient, at, LANES)
    any_touched, touched = _touched(code, slope, features)
    with builder.if_then(any_touched):
        rate, keep1, take1, keep2, take2, epsilon = (code.broadcast(value, LANES) for value in code.arguments[5:])
        old = [code.load(array, at, LANES) for array in (table, first, second)]
        m = code.multiply_add(take1, slope, builder.fmul(keep1, old[1]))
        v = code.multiply_add(builder.fmul(take2, slope), slope, builder.fmul(keep2, old[2]))
        move = builder.fdiv(builder.fmul(rate, m), builder.fadd(code.root(v), epsilon))
        new = builder.fsub(old[0], move), m, v
        for array, was, becomes in zip((table, first, second), old, new, strict=True):
            code.store(builder.select(touched, becomes, was), array, at)
        code.store(code.constant(0.0, LANES), gradient, at)


def _touched(code: _Code, slope: Any, features: int) -> tuple[Any, Any]:
    """Whether any lane is not 0, and for each lane whether any lane of its row is. A zero may have either sign."""
    builder, kind, bits = code.builder, ir.VectorType(_INT32, LANES), ir.IntType(LANES)
    numbers = builder.and_(builder.bitcast(slope, kind), code.constant(0x7FFFFFFF, LANES, _INT32))
    step = 1
    while step < features:  # with the neighbour, then with the neighbours' neighbours
        numbers = builder.or_(numbers, _shuffled(code, numbers, numbers, [lane ^ step for lane in range(LANES)]))
        step *= 2
    touched = builder.icmp_unsigned("!=", numbers, code.constant(0, LANES, _INT32))
    return builder.icmp_unsigned("!=", builder.bitcast(touched, bits), ir.Constant(bits, 0)), touched


# --- matrix products ------------------------------------------------------------------------------------------------


@built_in
def product(typing_context, matrix, values, out):
    """out = matrix @ values; matrix [rows, inputs], values [inputs, GROUP], out [rows, GROUP]."""
    return _built_in(lambda code: _product(code, (0, 1, 2)), matrix, values, out)


@built_in
def product_where(typing_context, matrix, values, kept, out):
    """`product` where `kept` [rows, GROUP] is above 0, and 0 elsewhere: the gradient before a rectifier."""
    return _built_in(lambda code: _product(code, (0, 1, 3), kept=2), matrix, values, kept, out)


@built_in
def affine(typing_context, matrix, bias, values, out):
    """`product` plus the `bias` of each row."""
    return _built_in(lambda code: _product(code, (0, 2, 3), bias=1), matrix, bias, values, out)


@built_in
def affine_rectified(typing_context, matrix, bias, values, out):
    """`affine`, and 0 where that is below 0."""
    return _built_in(lambda code: _product(code, (0, 2, 3), bias=1, rectified=True), matrix, bias, values, out)


def _product(
    code: _Code, places: tuple[int, int, int], bias: int | None = None, kept: int | None = None, rectified: bool = False
) -> None:
    """`places`: which arguments are matrix, values and out. Blocks of rows and points, whose sums stay in registers."""
    matrix, values, out = map(code.pointer, places)
    rows, inputs = (code.size(places[0], axis) for axis in (0, 1))
    zero, points = code.constant(0.0, LANES), range(0, 2 * LANES if HAS_32_REGISTERS else LANES, LANES)

    def block(row: Any, height: int, begin: int) -> None:
        numbers = [code.add(row, code.index(r)) for r in range(height)]
        starts, first = [code.times(number, inputs) for number in numbers], [zero] * height
        if bias is not None:
            first = [code.broadcast(code.scalar(code.pointer(bias), number), LANES) for number in numbers]
        sums = [[code.variable(LANES) for _ in points] for _ in range(height)]
        for row_sums, value in zip(sums, first, strict=True):
            for total in row_sums:
                code.builder.store(value, total)
        with cgutils.for_range(code.builder, inputs) as loop:
            at = code.add(code.times(loop.index, GROUP), code.index(begin))
            column = [code.load(values, code.add(at, code.index(point)), LANES) for point in points]
            for start, row_sums in zip(starts, sums, strict=True):
                factor = code.broadcast(code.scalar(matrix, code.add(start, loop.index)), LANES)
                for value, total in zip(column, row_sums, strict=True):
                    code.builder.store(code.multiply_add(factor, value, code.builder.load(total)), total)
        for r, row_sums in enumerate(sums):
            for point, total in zip(points, row_sums, strict=True):
                at = code.add(code.times(row, GROUP), code.index(r * GROUP + begin + point))
                result = code.builder.load(total)
                if rectified:
                    result = code.builder.select(_is_negative(code, result), zero, result)
                if kept is not None:
                    sign = code.load(code.pointer(kept), at, LANES)
                    result = code.builder.select(code.builder.fcmp_ordered(">", sign, zero), result, zero)
                code.store(result, out, at)

    whole = code.builder.and_(rows, code.index(-4))
    for first_row, end, height in ((code.index(0), whole, 4), (whole, rows, 1)):
        with cgutils.for_range_slice(code.builder, first_row, end, code.index(height)) as (row, _):
            for begin in range(0, GROUP, len(points) * LANES):
                block(row, height, begin)


def _is_negative(code: _Code, values: Any) -> Any:
    """Whether each lane is below 0, by its bits: compared as numbers, the compiler may take it that none is NaN, and
    then NaN would become 0 and never be found in the loss. The sign bit alone is not enough, for NaN may have it."""
    kind = ir.VectorType(_INT32, LANES)
    above_sign = code.builder.sub(code.builder.bitcast(values, kind), code.constant(0x80000000, LANES, _INT32))
    return code.builder.icmp_unsigned("<=", above_sign, code.constant(0x7F800000, LANES, _INT32))


@built_in
def add_outer_product(typing_context, left, right, out):
    """out += left @ right^T; left [rows, GROUP], right [columns, GROUP], out [rows, columns]."""
    return _built_in(_add_outer_product, left, right, out)


def _add_outer_product(code: _Code) -> None:
    rows, columns = code.size(0, 0), code.size(1, 0)
    tall, wide = 4 if HAS_32_REGISTERS else 2, 4
    whole_rows, whole_columns = (
        code.builder.and_(rows, code.index(-tall)),
        code.builder.and_(columns, code.index(-wide)),
    )
    zero = code.index(0)
    for (row_begin, row_end, height), (column_begin, column_end, width) in (
        ((zero, whole_rows, tall), (zero, whole_columns, wide)),
        ((zero, whole_rows, tall), (whole_columns, columns, 1)),
        ((whole_rows, rows, 1), (zero, whole_columns, wide)),
        ((whole_rows, rows, 1), (whole_columns, columns, 1)),
    ):
        with (
            cgutils.for_range_slice(code.builder, row_begin, row_end, code.index(height)) as (row, _),
            cgutils.for_range_slice(code.builder, column_begin, column_end, code.index(width)) as (column, _),
        ):
            _outer_block(code, row, height, column, width)


def _outer_block(code: _Code, row: Any, height: int, column: Any, width: int) -> None:
    """Dot products of `height` rows with `width` others, in vectors of 8, whose lanes are summed at the end."""
    lanes = 8
    left, right, out, columns = code.pointer(0), code.pointer(1), code.pointer(2), code.size(1, 0)
    sums = [[code.constant(0.0, lanes)] * width for _ in range(height)]
    for begin in range(0, GROUP, lanes):
        lefts = [_piece(code, left, row, r, begin, lanes) for r in range(height)]
        rights = [_piece(code, right, column, c, begin, lanes) for c in range(width)]
        sums = [[code.multiply_add(lefts[r], rights[c], sums[r][c]) for c in range(width)] for r in range(height)]
    for r in range(height):
        at = code.add(code.times(code.add(row, code.index(r)), columns), column)
        if width == 1:
            total = _sum_of_lanes(code, sums[r][0])
            place = code.builder.gep(out, [at])
            code.builder.store(code.builder.fadd(code.builder.load(place), total), place)
        else:
            total = _sums_of_four(code, sums[r])
            code.store(code.builder.fadd(code.load(out, at, 4), total), out, at)


def _piece(code: _Code, values: Any, first: Any, number: int, begin: int, lanes: int) -> Any:
    return code.load(values, code.add(code.times(first, GROUP), code.index(number * GROUP + begin)), lanes)


def _shuffled(code: _Code, one: Any, other: Any, lanes: Sequence[int]) -> Any:
    return code.builder.shuffle_vector(one, other, ir.Constant(ir.VectorType(_INT32, len(lanes)), list(lanes)))


def _sums_of_four(code: _Code, four: Sequence[Any]) -> Any:
    """The sums of four vectors of 8, as one of 4: neighbours are added twice, then the halves."""
    even, odd = (0, 2, 8, 10, 4, 6, 12, 14), (1, 3, 9, 11, 5, 7, 13, 15)
    while len(four) > 1:
        four = [
            code.builder.fadd(_shuffled(code, one, other, even), _shuffled(code, one, other, odd))
            for one, other in zip(four[::2], four[1::2], strict=True)
        ]
    (both,) = four
    return code.builder.fadd(_shuffled(code, both, both, range(4)), _shuffled(code, both, both, range(4, 8)))


def _sum_of_lanes(code: _Code, vector: Any) -> Any:
    total = _sums_of_four(code, [vector] * 4)
    return code.builder.extract_element(total, ir.Constant(_INT32, 0))
