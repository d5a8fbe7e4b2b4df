"""Splats as arrays and files: laws of motion, round trips, and what strangers read."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from blocknerf.core.errors import UserError
from blocknerf.export.splats import Splats, transformed
from blocknerf.export.splats_file import read_splats, write_splats
from blocknerf.geometry import so3
from blocknerf.geometry.harmonics import harmonics
from blocknerf.geometry.similarity import Similarity
from tests.support.made_splats import made_splats

TURN = so3.exp(torch.tensor([0.5, -2.0, 0.7], dtype=torch.float64)).numpy()
MOTION = Similarity(0.3, TURN, np.array([4.0, -5.0, 6.0]))


def _axes(splats: Splats) -> np.ndarray:
    return so3.from_quaternion(torch.from_numpy(splats.quaternions).double()).numpy()


def _covariances(splats: Splats) -> np.ndarray:
    axes = _axes(splats) * np.exp(splats.log_scales)[:, None]
    return axes @ axes.transpose(0, 2, 1)


def _colours(splats: Splats, directions: np.ndarray) -> np.ndarray:
    values = harmonics(torch.from_numpy(directions), splats.degree).numpy()
    return 0.5 + np.einsum("df,nfc->dnc", values, splats.harmonics)


def _same(one: Splats, other: Splats, **tolerance) -> None:
    for name in Splats.__slots__:
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), err_msg=name, **tolerance)


def test_a_motion_turns_places_shapes_and_colours_alike():
    before = made_splats(30)
    after = transformed(before, MOTION)
    turn = MOTION.rotation
    np.testing.assert_allclose(after.means, 0.3 * before.means @ turn.T + MOTION.translation, atol=1e-5)
    np.testing.assert_allclose(_covariances(after), 0.09 * turn @ _covariances(before) @ turn.T, atol=1e-5)
    directions = np.random.default_rng(5).normal(size=(20, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    np.testing.assert_allclose(_colours(after, directions @ turn.T), _colours(before, directions), atol=1e-5)


def test_the_opposite_motion_undoes_it():
    splats = made_splats(30)
    back = Similarity(1 / 0.3, MOTION.rotation.T, -MOTION.rotation.T @ MOTION.translation / 0.3)
    stored = transformed(transformed(splats, MOTION), back)
    sign = np.sign((stored.quaternions * splats.quaternions).sum(1, keepdims=True))
    _same(
        Splats(stored.means, stored.log_scales, sign * stored.quaternions, stored.opacity_logits, stored.harmonics),
        splats,
        atol=1e-5,
    )


def test_parts_of_different_degrees_are_joined():
    joined = Splats.concatenate([made_splats(4, 1), made_splats(3, 2, seed=1)])
    assert (len(joined), joined.degree) == (7, 2)
    assert not joined.harmonics[:4, 4:].any()
    np.testing.assert_array_equal(joined[4:].harmonics, made_splats(3, 2, seed=1).harmonics)


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_ply_comes_back_to_the_bit_and_a_stranger_reads_it(tmp_path, degree):
    plyfile = pytest.importorskip("plyfile")
    splats, path = made_splats(50, degree), tmp_path / "a.ply"
    write_splats(path, splats)
    _same(read_splats(path), splats, rtol=0)
    vertices = plyfile.PlyData.read(path)["vertex"]
    assert len(vertices.properties) == 17 + 3 * ((degree + 1) ** 2 - 1)
    np.testing.assert_array_equal(vertices["z"], splats.means[:, 2])
    np.testing.assert_array_equal(vertices["rot_0"], splats.quaternions[:, 0])
    for channel in range(3):
        np.testing.assert_array_equal(vertices[f"f_dc_{channel}"], splats.harmonics[:, 0, channel])
    if degree:  # all of red, then green, then blue
        per_channel = (degree + 1) ** 2 - 1
        np.testing.assert_array_equal(vertices[f"f_rest_{per_channel}"], splats.harmonics[:, 1, 1])


@pytest.mark.parametrize(("text", "order"), [(True, "="), (False, ">"), (False, "<")])
def test_plys_that_a_stranger_wrote_are_read(tmp_path, text, order):
    """Other types, another order, properties that nobody asked for, other elements behind."""
    plyfile = pytest.importorskip("plyfile")
    splats = made_splats(20, 0)
    columns = dict(zip("xyz", splats.means.T, strict=True))
    columns |= {f"rot_{i}": splats.quaternions[:, i] for i in range(4)} | {"opacity": splats.opacity_logits}
    columns |= {
        f"{name}_{i}": values[:, i]
        for i in range(3)
        for name, values in (("scale", splats.log_scales), ("f_dc", splats.harmonics[:, 0]))
    }
    rows = np.zeros(20, [("extra", "u1"), *((name, "f8") for name in sorted(columns))])
    for name, values in columns.items():
        rows[name] = values
    elements = [
        plyfile.PlyElement.describe(rows, "vertex"),
        plyfile.PlyElement.describe(np.zeros(2, [("a", "i4")]), "more"),
    ]
    plyfile.PlyData(elements, text=text, byte_order=order).write(str(tmp_path / "b.ply"))
    _same(read_splats(tmp_path / "b.ply"), splats, rtol=1e-5)


def _quanta(splats: Splats, stored: Splats) -> None:
    """Within half a step of what SPZ holds."""
    np.testing.assert_allclose(stored.means, splats.means, atol=0.5 / (1 << 16) + 2e-6)
    np.testing.assert_allclose(stored.log_scales, splats.log_scales, atol=0.5 / 16 + 1e-5)
    np.testing.assert_allclose(stored.opacities, splats.opacities, atol=0.5 / 255 + 1e-6)
    np.testing.assert_allclose(stored.harmonics[:, 0], splats.harmonics[:, 0], atol=0.5 / (255 * 0.15) + 1e-5)
    np.testing.assert_allclose(stored.harmonics[:, 1:], splats.harmonics[:, 1:], atol=0.5 / 128 + 1e-5)
    turns = np.abs((stored.quaternions * splats.quaternions).sum(1))
    assert turns.min() > np.cos(0.5 * 3 * 2**-0.5 / 511)


@pytest.mark.parametrize("degree", [0, 3])
def test_spz_comes_back_within_its_steps_and_a_stranger_reads_it(tmp_path, degree):
    splats, path = made_splats(200, degree), tmp_path / "a.spz"
    splats.means[0] = 120.0  # seven bits before the point, sixteen behind it
    write_splats(path, splats)
    _quanta(splats, read_splats(path))
    gsply = pytest.importorskip("gsply")
    read = gsply.read_spz(str(path))
    above = read.shN if degree else np.zeros((200, 0, 3), np.float32)
    stranger = Splats(
        read.means, read.scales, read.quats, read.opacities, np.concatenate([read.sh0[:, None], above], 1)
    )
    half_turn = Similarity(1.0, np.diag([1.0, -1.0, -1.0]), np.zeros(3))  # SPZ looks back where PLY looks forward
    _quanta(splats, transformed(stranger, half_turn))


def test_spz_of_version_2_is_read(tmp_path):
    """By hand from the specification: one splat at (1, 2, -0.5), turned by 90 degrees about x, of degree 0."""
    xyz = b"".join(int(v * 256).to_bytes(3, "little", signed=True) for v in (1, 2, -0.5))
    turn = bytes([round((2**-0.5 + 1) * 127.5), 128, 128])
    body = xyz + bytes([128]) + bytes([128, 255, 0]) + bytes([160, 144, 176]) + turn
    (tmp_path / "v2.spz").write_bytes(gzip.compress(struct.pack("<4sIIBBBB", b"NGSP", 2, 1, 0, 8, 0, 0) + body))
    splats = read_splats(tmp_path / "v2.spz")
    np.testing.assert_allclose(splats.means, [[1, -2, 0.5]])
    np.testing.assert_allclose(splats.log_scales, [[0, -1, 1]])
    np.testing.assert_allclose(splats.opacities, 128 / 255, atol=1e-6)
    np.testing.assert_allclose(splats.harmonics[0, 0], (np.array([128, 255, 0]) / 255 - 0.5) / 0.15, atol=1e-6)
    before = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]])
    np.testing.assert_allclose(_axes(splats)[0], np.diag([1, -1, -1]) @ before, atol=0.02)


def _points_only(path: Path) -> None:
    path.write_text(
        "ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nproperty float y\nproperty float z\n"
        "end_header\n0 0 0\n"
    )


def test_what_is_no_splat_file_is_said(tmp_path):
    points = tmp_path / "points.ply"
    _points_only(points)
    with pytest.raises(UserError, match="points.ply holds no splats: its vertices lack"):
        read_splats(points)
    write_splats(tmp_path / "a.ply", made_splats(9))
    content = (tmp_path / "a.ply").read_bytes()
    bad = {
        "cut.ply": (content[:-40], "announces 9 vertices and holds 8"),
        "word.ply": (b"plx" + content[3:], "does not begin with 'ply'"),
        "head.ply": (content[:200], "cannot be read as PLY"),
        "rest.ply": (content.replace(b"f_rest_44", b"g_rest_44"), "has 44 properties f_rest"),
        "list.ply": (content.replace(b"float opacity", b"lists opacity"), "is not a number: 'property lists opacity'"),
    }
    write_splats(tmp_path / "a.spz", made_splats(9))
    packed = gzip.decompress((tmp_path / "a.spz").read_bytes())
    bad |= {
        "gzip.spz": (b"no", "The SPZ file .*gzip.spz is damaged: it is not compressed with gzip"),
        "magic.spz": (gzip.compress(b"XXXX" + packed[4:]), "does not begin with NGSP"),
        "version.spz": (gzip.compress(packed[:4] + b"\x09" + packed[5:]), "SPZ of version 9"),
        "cut.spz": (gzip.compress(packed[:-1]), "9 splats do not fit"),
    }
    for name, (file, message) in bad.items():
        (tmp_path / name).write_bytes(file)
        with pytest.raises(UserError, match=message):
            read_splats(tmp_path / name)
    with pytest.raises(UserError, match="written as .ply or .spz"):
        write_splats(tmp_path / "a.glb", made_splats(1))
    with pytest.raises(UserError, match="There is no splat file"):
        read_splats(tmp_path / "nothing.ply")
    far = made_splats(2)
    far.means[0] = 9e6
    with pytest.raises(UserError, match="one lies at 9000000 m. Write PLY"):
        write_splats(tmp_path / "far.spz", far)
