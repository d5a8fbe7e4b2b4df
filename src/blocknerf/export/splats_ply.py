"""Splats as PLY in the layout of 3D Gaussian Splatting, which trainers and viewers share."""

from pathlib import Path

import numpy as np

from blocknerf.core.errors import UserError
from blocknerf.core.ply import read_vertices, vertex_properties, write_vertices
from blocknerf.export.splats import Splats
from blocknerf.geometry.harmonics import MOST_DEGREE, num_harmonics

_NEEDED = (
    *("x", "y", "z", "f_dc_0", "f_dc_1", "f_dc_2", "opacity"),
    *("scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"),
)


def write_splats_ply(path: Path, splats: Splats) -> None:
    """Binary, float32, in the order of the first implementation; normals are there and zero.

    f_rest holds the bands above 0, all of red, then green, then blue.
    """
    rest = splats.harmonics[:, 1:].transpose(0, 2, 1).reshape(len(splats), 3 * (splats.harmonics.shape[1] - 1))
    columns = {
        "x y z": splats.means,
        "nx ny nz": np.zeros_like(splats.means),
        "f_dc_0 f_dc_1 f_dc_2": splats.harmonics[:, 0],
        " ".join(f"f_rest_{i}" for i in range(rest.shape[1])): rest,
        "opacity": splats.opacity_logits[:, None],
        "scale_0 scale_1 scale_2": splats.log_scales,
        "rot_0 rot_1 rot_2 rot_3": splats.quaternions,
    }
    write_vertices(path, columns)


def read_splats_ply(path: Path) -> Splats:
    """Any PLY whose vertices are splats. Raises UserError if it is damaged, or lacks properties, which the message
    names."""
    names = vertex_properties(path)
    missing = [name for name in _NEEDED if name not in names]
    if missing:
        raise UserError(
            f"{path} holds no splats: its vertices lack {', '.join(missing)}. Give a PLY in the layout of 3D "
            "Gaussian Splatting, as trainers write it."
        )
    rest = _rest(path, names)
    rows = read_vertices(path)
    return Splats(
        _columns(rows, "x y z"),
        _columns(rows, "scale_0 scale_1 scale_2"),
        _columns(rows, "rot_0 rot_1 rot_2 rot_3"),
        _columns(rows, "opacity")[:, 0],
        _harmonics(rows, rest),
    )


def is_splats_ply(path: Path) -> bool:
    """Whether the vertices of a PLY are splats, by its header; trainers' folders contain other PLYs as well."""
    try:
        return set(_NEEDED) <= set(vertex_properties(path))
    except UserError:
        return False


def _columns(rows: np.ndarray, names: str) -> np.ndarray:
    return np.stack([rows[name].astype(np.float32) for name in names.split()], axis=1)


def _rest(path: Path, names: tuple[str, ...]) -> str:
    rest = [name for name in names if name.startswith("f_rest_")]
    counts = {3 * (num_harmonics(degree) - 1) for degree in range(MOST_DEGREE + 1)}
    if len(rest) not in counts or set(rest) != {f"f_rest_{i}" for i in range(len(rest))}:
        raise UserError(
            f"{path} has {len(rest)} properties f_rest_..., where 0, 9, 24 or 45 of them (degrees 0 to 3) can be read."
        )
    return " ".join(f"f_rest_{i}" for i in range(len(rest)))


def _harmonics(rows: np.ndarray, rest: str) -> np.ndarray:
    flat = _columns(rows, "f_dc_0 f_dc_1 f_dc_2")[:, None]
    if not rest:
        return flat
    above = _columns(rows, rest).reshape(len(rows), 3, len(rest.split()) // 3)
    return np.concatenate([flat, above.transpose(0, 2, 1)], axis=1)
