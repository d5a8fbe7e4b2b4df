"""Points and triangles as binary PLY, which every program for geometry reads."""

from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, UInt8

from blocknerf.core.files import write_atomically

_TYPES = {"float": "<f4", "uchar": "u1"}


def write_ply(
    path: Path,
    places: Float[np.ndarray, "n 3"],
    colours: UInt8[np.ndarray, "n 3"],
    normals: Float[np.ndarray, "n 3"] | None = None,
    faces: Int[np.ndarray, "m 3"] | None = None,
) -> None:
    """Metres as float32; colours 0 to 255; with `faces`, triangles."""
    columns = [("x y z", "float", places)]
    columns += [] if normals is None else [("nx ny nz", "float", normals)]
    columns += [("red green blue", "uchar", colours)]
    properties = [(name, kind) for names, kind, _ in columns for name in names.split()]
    rows = np.empty(len(places), [(name, _TYPES[kind]) for name, kind in properties])
    for names, _, values in columns:
        for name, column in zip(names.split(), values.T, strict=True):
            rows[name] = column
    header = ["ply", "format binary_little_endian 1.0", "comment metres", f"element vertex {len(rows)}"]
    header += [f"property {kind} {name}" for name, kind in properties]
    triangles = None
    if faces is not None:
        header += [f"element face {len(faces)}", "property list uchar int vertex_indices"]
        triangles = np.empty(len(faces), [("count", "u1"), ("corners", "<i4", 3)])
        triangles["count"], triangles["corners"] = 3, faces

    def write(temporary: Path) -> None:
        with temporary.open("wb") as handle:
            handle.write("\n".join([*header, "end_header", ""]).encode())
            rows.tofile(handle)
            if triangles is not None:
                triangles.tofile(handle)

    write_atomically(path, write)
