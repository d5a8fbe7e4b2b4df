"""PLY files: what a stranger wrote is read, a stranger reads what is written, and damage is said."""

from pathlib import Path

import numpy as np
import plyfile
import pytest

from blocknerf.core import ply
from blocknerf.core.errors import UserError
from blocknerf.core.ply import read_points, read_vertices, vertex_properties, write_points, write_vertices


def write_by_a_stranger(path: Path, points: np.ndarray, colours: np.ndarray | None, text: bool, order: str) -> None:
    """With a normal, a comment and faces behind the vertices."""
    kinds = [(axis, "f8") for axis in "xyz"] + [("nx", "f4")]
    kinds += [(name, "u1") for name in ("red", "green", "blue")] if colours is not None else []
    vertices = np.zeros(len(points), kinds)
    for column, name in enumerate("xyz"):
        vertices[name] = points[:, column]
    for column, name in enumerate(("red", "green", "blue") if colours is not None else ()):
        vertices[name] = colours[:, column]
    faces = np.array([([0, 1, 2],)], [("vertex_indices", "i4", (3,))])
    elements = [plyfile.PlyElement.describe(vertices, "vertex"), plyfile.PlyElement.describe(faces, "face")]
    plyfile.PlyData(elements, text=text, byte_order=order, comments=["made for a test"]).write(path)


@pytest.mark.parametrize(("text", "order"), [(True, "="), (False, "<"), (False, ">")])
@pytest.mark.parametrize("coloured", [True, False])
def test_points_that_a_stranger_wrote(tmp_path, monkeypatch, text, order, coloured):
    monkeypatch.setattr(ply, "_ROWS_AT_ONCE", 4)
    rng = np.random.default_rng(0)
    points, colours = rng.normal(size=(9, 3)), rng.integers(0, 256, (9, 3), np.uint8)
    write_by_a_stranger(tmp_path / "p.ply", points, colours if coloured else None, text, order)
    places, read = read_points(tmp_path / "p.ply")
    np.testing.assert_allclose(places, points, atol=1e-6)
    np.testing.assert_array_equal(read, colours if coloured else np.full((9, 3), 128))
    assert vertex_properties(tmp_path / "p.ply")[:4] == ("x", "y", "z", "nx")


def test_colours_that_are_shares(tmp_path):
    colours = np.array([[0, 0.5, 1]], np.float32)
    write_vertices(tmp_path / "p.ply", {"x y z": np.zeros((1, 3)), "red green blue": colours})
    assert read_points(tmp_path / "p.ply")[1].tolist() == [[0, 128, 255]]


def test_a_stranger_reads_vertices_and_triangles(tmp_path, monkeypatch):
    monkeypatch.setattr(ply, "_ROWS_AT_ONCE", 4)
    rng = np.random.default_rng(0)
    places, normals = rng.normal(size=(2, 9, 3))
    colours, faces = rng.integers(0, 256, (9, 3), np.uint8), rng.integers(0, 9, (5, 3))
    write_points(tmp_path / "m.ply", places, colours, normals, faces)
    read = plyfile.PlyData.read(tmp_path / "m.ply")
    for names, values in (("x y z", places), ("nx ny nz", normals), ("red green blue", colours)):
        np.testing.assert_array_equal(
            np.stack([read["vertex"][name] for name in names.split()], -1),
            values if values.dtype == np.uint8 else values.astype(np.float32),
        )
    np.testing.assert_array_equal(np.stack(read["face"]["vertex_indices"]), faces)
    trimesh = pytest.importorskip("trimesh")
    again = trimesh.load(tmp_path / "m.ply", process=False)
    np.testing.assert_allclose(again.vertices, places, rtol=1e-6)
    np.testing.assert_array_equal(again.visual.vertex_colors[:, :3], colours)
    np.testing.assert_array_equal(again.faces, faces)


def test_no_vertices_are_none(tmp_path):
    write_points(tmp_path / "p.ply", np.zeros((0, 3)), np.zeros((0, 3), np.uint8))
    assert read_points(tmp_path / "p.ply")[0].shape == (0, 3)


HEAD = b"ply\nformat ascii 1.0\nelement vertex 2\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"obj\n", "p.ply cannot be read as PLY: it does not begin with 'ply'."),
        (b"ply\nformat ascii 1.0\nelement face 3\n", "its first element is 'face', not 'vertex'"),
        (HEAD + b"property list uchar int x\n", "is not a number: 'property list uchar int x'"),
        (HEAD + b"property lists x\n", "is not a number: 'property lists x'"),
        (HEAD + b"property float x\nend_header\n1\n2\n", "p.ply holds no points"),
        (HEAD + b"end_header\n1\n2\n", "names no format, or no properties"),
        (HEAD, "its header has no end"),
        (b"ply\ncomment " + b"long" * (1 << 18), "its header has no end"),
        (b"ply\nelement vertex -2\n", "its header has the line 'element vertex -2'"),
        (HEAD + b"property float x\nproperty int x\nend_header\n", "field 'x' occurs more than once"),
        (HEAD + b"property float x\nend_header\n1 2\n3\n", "cannot be read as PLY: could not assign tuple of length 2"),
        (HEAD + b"property uchar x\nend_header\n1\n300\n", "300 out of bounds for uint8"),
        (HEAD + b"property float x\nend_header\n1\nb\n", "could not convert string to float"),
        (HEAD + b"property float x\nend_header\n1\n", "is truncated: it announces 2 vertices and holds 1"),
        (
            HEAD.replace(b"ascii", b"binary_big_endian") + b"property float x\nend_header\n1234567",
            "is truncated: it announces 2 vertices and holds 1",
        ),
    ],
)
def test_damage_is_said(tmp_path, content, message):
    (tmp_path / "p.ply").write_bytes(content)
    with pytest.raises(UserError) as refused:
        read_points(tmp_path / "p.ply")
    assert message in str(refused.value)


def test_a_file_that_announces_too_much_takes_no_memory(tmp_path):
    (tmp_path / "p.ply").write_bytes(
        b"ply\nformat binary_little_endian 1.0\nelement vertex 1000000000000\nproperty double x\nend_header\n12345678"
    )
    with pytest.raises(UserError, match="announces 1000000000000 vertices and holds 1"):
        read_vertices(tmp_path / "p.ply")
