"""Splats as PLY in the layout of 3D Gaussian Splatting, which trainers and viewers share."""

from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np

from blocknerf.core.errors import UserError
from blocknerf.core.files import write_atomically
from blocknerf.export.splats import Splats
from blocknerf.geometry.harmonics import MOST_DEGREE, num_harmonics

_NEEDED = (
    *("x", "y", "z", "f_dc_0", "f_dc_1", "f_dc_2", "opacity"),
    *("scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"),
)
_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2",
    "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4",
    "double": "f8", "float64": "f8",
}  # fmt: skip
_ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": "="}
_LONGEST_HEADER = 1 << 16


def write_splats_ply(path: Path, splats: Splats) -> None:
    """Binary, float32, in the order of the first implementation; normals are there and zero.

    f_rest holds the bands above 0, all of red, then green, then blue.
    """
    rest = splats.harmonics[:, 1:].transpose(0, 2, 1).reshape(len(splats), -1)
    columns = {
        "x y z": splats.places, "nx ny nz": np.zeros_like(splats.places),
        "f_dc_0 f_dc_1 f_dc_2": splats.harmonics[:, 0],
        " ".join(f"f_rest_{i}" for i in range(rest.shape[1])): rest,
        "opacity": splats.opacity_logits[:, None], "scale_0 scale_1 scale_2": splats.log_scales,
        "rot_0 rot_1 rot_2 rot_3": splats.quaternions,
    }  # fmt: skip
    names = " ".join(columns).split()
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(splats)}"]
    header += [*(f"property float {name}" for name in names), "end_header", ""]
    rows = np.concatenate(list(columns.values()), axis=1).astype("<f4")

    def write(temporary: Path) -> None:
        with temporary.open("wb") as handle:
            handle.write("\n".join(header).encode())
            rows.tofile(handle)

    write_atomically(path, write)


def read_splats_ply(path: Path) -> Splats:
    """Any PLY whose vertices are splats. Raises UserError when it is damaged, or names the properties that lack."""
    with path.open("rb") as handle:
        kind, count, layout = _header(path, handle)
        names = layout.names or ()
        missing = [name for name in _NEEDED if name not in names]
        if missing:
            raise UserError(
                f"{path} holds no splats: its vertices lack {', '.join(missing)}. Give a PLY in the layout of 3D "
                "Gaussian Splatting, as trainers write it."
            )
        rows = _rows(path, handle, kind, count, layout)
    return Splats(
        _columns(rows, "x y z"),
        _columns(rows, "scale_0 scale_1 scale_2"),
        _columns(rows, "rot_0 rot_1 rot_2 rot_3"),
        _columns(rows, "opacity")[:, 0],
        _harmonics(path, rows, names),
    )


def is_splats_ply(path: Path) -> bool:
    """Whether a PLY says of its vertices that they are splats; others lie in trainers' folders as well."""
    try:
        with path.open("rb") as handle:
            _, _, layout = _header(path, handle)
    except UserError:
        return False
    return set(_NEEDED) <= set(layout.names or ())


def _header(path: Path, handle: BinaryIO) -> tuple[str, int, np.dtype]:
    """Format, number of vertices, and their properties; the vertices must come first."""
    if handle.readline(16).strip() != b"ply":
        raise UserError(f"{path} is no PLY file: it does not begin with the word ply.")
    kind, count, fields, words = "", -1, [], [""]
    while words != ["end_header"] and handle.tell() < _LONGEST_HEADER and (line := handle.readline(1024)):
        words = line.decode("ascii", "replace").split()
        if words[:1] == ["format"] and len(words) > 1:
            kind = words[1]
        elif words[:1] == ["element"]:
            if count >= 0:
                fields.append(None)  # what follows belongs to another element
            elif words[1:2] != ["vertex"] or len(words) != 3 or not words[2].isdigit():
                raise UserError(f"{path} is a PLY whose first element is not its vertices; splats are vertices.")
            else:
                count = int(words[2])
        elif words[:1] == ["property"] and None not in fields:
            if len(words) != 3 or words[1] not in _TYPES:
                raise UserError(f"{path} has a vertex property that is no number: {' '.join(words[1:])}.")
            fields.append((words[2], _TYPES[words[1]]))
    if kind not in _ORDERS or count < 0 or words != ["end_header"]:
        raise UserError(f"The header of {path} is damaged: it says no known format, or no vertices, or has no end.")
    own = [field for field in fields if field is not None]
    if len({name for name, _ in own}) != len(own):
        raise UserError(f"The header of {path} is damaged: two properties of its vertices share a name.")
    return kind, count, np.dtype([(name, _ORDERS[kind] + code) for name, code in own])


def _rows(path: Path, handle: BinaryIO, kind: str, count: int, layout: np.dtype) -> np.ndarray:
    if kind == "ascii":
        try:
            rows = np.array([tuple(map(float, line.split())) for line in islice(handle, count)], layout)
        except ValueError as error:
            raise UserError(f"{path} is damaged: a line of its vertices cannot be read ({error}).") from error
    else:
        left = path.stat().st_size - handle.tell()
        rows = np.fromfile(handle, layout, min(count, left // max(layout.itemsize, 1)))
    if len(rows) != count:
        raise UserError(f"{path} is truncated: it announces {count} splats and holds {len(rows)}. Copy it again.")
    return rows


def _columns(rows: np.ndarray, names: str) -> np.ndarray:
    return np.stack([rows[name].astype(np.float32) for name in names.split()], axis=1)


def _harmonics(path: Path, rows: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    rest = [name for name in names if name.startswith("f_rest_")]
    counts = {3 * (num_harmonics(degree) - 1) for degree in range(MOST_DEGREE + 1)}
    if len(rest) not in counts or set(rest) != {f"f_rest_{i}" for i in range(len(rest))}:
        raise UserError(
            f"{path} has {len(rest)} properties f_rest_..., where 0, 9, 24 or 45 of them (degrees 0 to 3) can be read."
        )
    flat = _columns(rows, "f_dc_0 f_dc_1 f_dc_2")[:, None]
    if not rest:
        return flat
    above = _columns(rows, " ".join(f"f_rest_{i}" for i in range(len(rest))))
    return np.concatenate([flat, above.reshape(len(rows), 3, -1).transpose(0, 2, 1)], axis=1)
