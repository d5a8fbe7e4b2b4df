"""Points of a PLY file (Turk 1994): ASCII or binary, positions and, where they are there, colours of its vertices."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from blocknerf.core.errors import UserError

_TYPES = {
    **dict.fromkeys(("char", "int8"), "i1"),
    **dict.fromkeys(("uchar", "uint8"), "u1"),
    **dict.fromkeys(("short", "int16"), "i2"),
    **dict.fromkeys(("ushort", "uint16"), "u2"),
    **dict.fromkeys(("int", "int32"), "i4"),
    **dict.fromkeys(("uint", "uint32"), "u4"),
    **dict.fromkeys(("float", "float32"), "f4"),
    **dict.fromkeys(("double", "float64"), "f8"),
}
_ORDERS = {"ascii": "=", "binary_little_endian": "<", "binary_big_endian": ">"}
_GRAY = 128


@dataclass(frozen=True, slots=True)
class _Header:
    format: str
    count: int  # of vertices
    vertex: np.dtype


def read_ply(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """[n, 3] float64 positions and [n, 3] uint8 colours, gray where there are none.

    Raises UserError where the file is damaged, or its vertices are not its first element or have lists.
    """
    try:
        with path.open("rb") as handle:
            header = _read_header(handle)
            vertices = _read_vertices(handle.read(), header)
        points = np.stack([vertices[axis].astype(np.float64) for axis in "xyz"], axis=1)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as points in PLY: {error}.") from error
    if not {"red", "green", "blue"} <= set(header.vertex.names or ()):
        return points, np.full((len(points), 3), _GRAY, np.uint8)
    colours = np.stack([vertices[name] for name in ("red", "green", "blue")], axis=1)
    return points, (np.round(255 * colours) if colours.dtype.kind == "f" else colours).astype(np.uint8)


def _read_header(handle: io.BufferedIOBase) -> _Header:
    if handle.readline().strip() != b"ply":
        raise ValueError("it does not begin with 'ply'")
    kind, count, fields, elements = "", 0, [], 0
    while (line := handle.readline().decode("ascii").split()) != ["end_header"]:
        match line:
            case ["format", name, _] if name in _ORDERS:
                kind = name
            case ["element", name, number]:
                elements += 1
                if elements == 1 and name != "vertex":
                    raise ValueError(f"its first element is {name!r}, not 'vertex'")
                count = int(number) if elements == 1 else count
            case ["property", type_name, name] if elements == 1 and type_name in _TYPES:
                fields.append((name, _ORDERS.get(kind, "=") + _TYPES[type_name]))
            case ["comment" | "obj_info", *_]:
                pass
            case ["property", *_] if elements > 1:
                pass
            case _:
                raise ValueError(f"its header has the line {' '.join(line)!r}")
    if not kind or not {"x", "y", "z"} <= {name for name, _ in fields}:
        raise ValueError("its header names no format, or vertices without x, y and z")
    return _Header(kind, count, np.dtype(fields))


def _read_vertices(content: bytes, header: _Header) -> np.ndarray:
    if header.format != "ascii":
        return np.frombuffer(content, header.vertex, header.count)
    lines = content.decode("ascii").splitlines()[: header.count]
    if len(lines) < header.count:
        raise ValueError(f"it ends after {len(lines)} of {header.count} vertices")
    return np.array([tuple(map(float, line.split())) for line in lines], np.dtype(header.vertex))
