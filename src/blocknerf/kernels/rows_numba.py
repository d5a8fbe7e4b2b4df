"""One row of a table is one vector: numba by itself would load, multiply and add its features one by one.

The eight corners of a cell are given as numbers of rows and weights, [8, GROUP] each, of which column `g` counts.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

GROUP = 64  # points whose rows are found together before any is read

_FLOAT, _INT32, _INT64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)


def _pointer(context: Any, builder: Any, array_type: Any, array: Any) -> Any:
    return context.make_array(array_type)(context, builder, array).data


def _corners(context: Any, builder: Any, signature: Any, arguments: Any, features: int) -> Any:
    """Of every corner its row as a pointer to a vector, and its weight in every lane of one."""
    table_type, _, rows_type, weights_type, _ = signature.args[:5]
    table, first, rows, weights, g = arguments[:5]
    table = _pointer(context, builder, table_type, table)
    rows = _pointer(context, builder, rows_type, rows)
    weights = _pointer(context, builder, weights_type, weights)
    vector = ir.VectorType(_FLOAT, features)
    lanes = ir.Constant(ir.VectorType(_INT32, features), [0] * features)
    nothing = ir.Constant(vector, ir.Undefined)
    for corner in range(8):
        at = builder.add(g, ir.Constant(_INT64, corner * GROUP))
        row = builder.add(first, builder.zext(builder.load(builder.gep(rows, [at])), _INT64))
        place = builder.gep(table, [builder.mul(row, ir.Constant(_INT64, features))])
        weight = builder.insert_element(nothing, builder.load(builder.gep(weights, [at])), ir.Constant(_INT32, 0))
        yield builder.bitcast(place, vector.as_pointer()), builder.shuffle_vector(weight, nothing, lanes)


def _feature(builder: Any, pointer: Any, at: Any, stride: Any, feature: int) -> Any:
    return builder.gep(pointer, [builder.add(at, builder.mul(stride, ir.Constant(_INT64, feature)))])


def _blend(features: int) -> Any:
    def typed(typing_context, table, first, rows, weights, g, out, at, stride):
        def code(context, builder, signature, arguments):
            total = None
            for place, weight in _corners(context, builder, signature, arguments, features):
                part = builder.fmul(weight, builder.load(place, align=4), flags=("contract",))
                total = part if total is None else builder.fadd(total, part, flags=("contract",))
            out, at, stride = _pointer(context, builder, signature.args[5], arguments[5]), *arguments[6:]
            for f in range(features):
                value = builder.extract_element(total, ir.Constant(_INT32, f))
                builder.store(value, _feature(builder, out, at, stride, f))
            return context.get_dummy_value()

        return types.void(table, first, rows, weights, g, out, at, stride), code

    return intrinsic(typed)


def _add(features: int) -> Any:
    def typed(typing_context, table, first, rows, weights, g, gradient, at, stride):
        def code(context, builder, signature, arguments):
            gradient, at, stride = _pointer(context, builder, signature.args[5], arguments[5]), *arguments[6:]
            vector = ir.Constant(ir.VectorType(_FLOAT, features), ir.Undefined)
            for f in range(features):
                value = builder.load(_feature(builder, gradient, at, stride, f))
                vector = builder.insert_element(vector, value, ir.Constant(_INT32, f))
            for place, weight in _corners(context, builder, signature, arguments, features):
                part = builder.fmul(weight, vector, flags=("contract",))
                total = builder.fadd(builder.load(place, align=4), part, flags=("contract",))
                builder.store(total, place, align=4)
            return context.get_dummy_value()

        return types.void(table, first, rows, weights, g, gradient, at, stride), code

    return intrinsic(typed)


blend_2, blend_4 = _blend(2), _blend(4)
"""blend(table, first, rows, weights, g, out, at, stride): out[at + f stride] = sum of weight times row `first` + rows.

All arrays are contiguous and indexed flat; `first`, `g`, `at` and `stride` are int64.
"""

add_2, add_4 = _add(2), _add(4)
"""add(table, first, rows, weights, g, gradient, at, stride): each row += its weight times gradient[at + f stride]."""
