"""PLY files (Turk 1994): vertices with whatever properties, and triangles. Clouds, meshes and splats are all these."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Float, Int, Shaped, UInt8

from blocknerf.core.errors import UserError
from blocknerf.core.files import write_pieces
from blocknerf.core.reading import opened

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
_LONGEST_HEADER = 1 << 20
_ROWS_AT_ONCE = 1 << 16
_GRAY = 128


@dataclass(frozen=True, slots=True)
class _Header:
    format: str
    count: int  # of vertices
    vertex: np.dtype


def read_vertices(path: Path) -> Shaped[np.ndarray, " n"]:
    """One record per vertex, with the file's field names; elements after the vertices are not read.

    Raises UserError if the file is damaged, or its vertices are not the first element or have lists.
    """
    with _opened(path) as handle:
        header = _read_header(handle)
        rows = _text_rows(handle, header) if header.format == "ascii" else _binary_rows(path, handle, header)
    if len(rows) < header.count:
        raise UserError(f"{path} is truncated: it announces {header.count} vertices and holds {len(rows)}.")
    return rows


def vertex_properties(path: Path) -> tuple[str, ...]:
    """Names of the vertex properties, read from the header only. Raises UserError as `read_vertices` does."""
    with _opened(path) as handle:
        return _read_header(handle).vertex.names or ()


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    with opened(path, "PLY file") as handle:
        try:
            yield handle
        except (ValueError, OverflowError, TypeError) as error:
            raise UserError(f"{path} cannot be read as PLY: {error}.") from error


def read_points(path: Path) -> tuple[Float[np.ndarray, "n 3"], UInt8[np.ndarray, "n 3"]]:
    """Places as float64, in the file's unit, and colours, gray where there are none.

    Raises UserError as `read_vertices` does, and if vertices have no position.
    """
    vertices = read_vertices(path)
    names = set(vertices.dtype.names or ())
    if not {"x", "y", "z"} <= names:
        raise UserError(f"{path} holds no points: its vertices have no x, y and z.")
    places = np.stack([vertices[axis].astype(np.float64) for axis in "xyz"], axis=1)
    if not {"red", "green", "blue"} <= names:
        return places, np.full((len(places), 3), _GRAY, np.uint8)
    colours = np.stack([vertices[name] for name in ("red", "green", "blue")], axis=1)
    shares = np.nan_to_num(colours.astype(np.float64), posinf=1) * (255 if colours.dtype.kind == "f" else 1)
    return places, np.clip(np.round(shares), 0, 255).astype(np.uint8)


def write_points(
    path: Path,
    places: Float[np.ndarray, "n 3"],
    colours: UInt8[np.ndarray, "n 3"],
    normals: Float[np.ndarray, "n 3"] | None = None,
    faces: Int[np.ndarray, "m 3"] | None = None,
) -> None:
    """Metres as float32; colours 0 to 255; with `faces`, triangles."""
    columns = {"x y z": places} | ({} if normals is None else {"nx ny nz": normals}) | {"red green blue": colours}
    write_vertices(path, columns, faces, comment="metres")


def write_vertices(
    path: Path,
    columns: Mapping[str, Shaped[np.ndarray, "n _"]],
    faces: Int[np.ndarray, "m 3"] | None = None,
    comment: str = "",
) -> None:
    """Binary PLY: `columns` maps names of properties, spaces between them, to values: bytes uchar, others float."""
    kinds = [(name, values.dtype == np.uint8) for names, values in columns.items() for name in names.split()]
    count = len(next(iter(columns.values())))
    header = ["ply", "format binary_little_endian 1.0", *([f"comment {comment}"] if comment else [])]
    header += [f"element vertex {count}", *(f"property {'uchar' if byte else 'float'} {name}" for name, byte in kinds)]
    header += [] if faces is None else [f"element face {len(faces)}", "property list uchar int vertex_indices"]
    layout = np.dtype([(name, "u1" if byte else "<f4") for name, byte in kinds])

    def pieces() -> Iterator[bytes]:
        yield "\n".join([*header, "end_header", ""]).encode()
        for start in range(0, count, _ROWS_AT_ONCE):
            part = slice(start, start + _ROWS_AT_ONCE)
            yield _records({names: values[part] for names, values in columns.items()}, layout).tobytes()
        if faces is not None:
            triangles = np.empty(len(faces), [("count", "u1"), ("corners", "<i4", 3)])
            triangles["count"], triangles["corners"] = 3, faces
            yield triangles.tobytes()

    write_pieces(path, pieces())


def _records(columns: Mapping[str, np.ndarray], layout: np.dtype) -> np.ndarray:
    rows = np.empty(len(next(iter(columns.values()))), layout)
    for names, values in columns.items():
        for name, column in zip(names.split(), values.T, strict=True):
            rows[name] = column
    return rows


def _read_header(handle: BinaryIO) -> _Header:
    """Raises ValueError with the problem."""
    if handle.readline(16).strip() != b"ply":
        raise ValueError("it does not begin with 'ply'")
    kind, count, fields, elements = "", 0, [], 0
    while (line := _header_line(handle)) != ["end_header"]:
        match line:
            case ["format", name, _] if name in _ORDERS:
                kind = name
            case ["element", name, number] if number.isdigit():
                elements += 1
                if elements == 1 and name != "vertex":
                    raise ValueError(f"its first element is {name!r}, not 'vertex'")
                count = int(number) if elements == 1 else count
            case ["property", type_name, name] if elements == 1 and type_name in _TYPES:
                fields.append((name, _ORDERS.get(kind, "=") + _TYPES[type_name]))
            case ["property", *_] if elements > 1:
                pass
            case [] | ["comment" | "obj_info", *_]:
                pass
            case ["property", *_] if elements:
                raise ValueError(f"a property of its vertices is not a number: {' '.join(line)!r}")
            case _:
                raise ValueError(f"its header has the line {' '.join(line)!r}")
    if not kind or not fields:
        raise ValueError("its header names no format, or no properties of vertices")
    return _Header(kind, count, np.dtype(fields))


def _header_line(handle: BinaryIO) -> list[str]:
    line = handle.readline(_LONGEST_HEADER)
    if not line or handle.tell() > _LONGEST_HEADER:
        raise ValueError("its header has no end")
    return line.decode("ascii", "replace").split()


def _text_rows(handle: BinaryIO, header: _Header) -> np.ndarray:
    parts, left = [np.empty(0, header.vertex)], header.count
    while lines := list(islice(handle, min(_ROWS_AT_ONCE, left))):
        parts.append(np.array([tuple(map(float, line.split())) for line in lines], header.vertex))
        left -= len(lines)
    return np.concatenate(parts)


def _binary_rows(path: Path, handle: BinaryIO, header: _Header) -> np.ndarray:
    """As many as there are; a header's number alone takes no memory."""
    left = path.stat().st_size - handle.tell()
    return np.fromfile(handle, header.vertex, min(header.count, left // header.vertex.itemsize))
