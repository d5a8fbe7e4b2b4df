"""Splats as SPZ, Niantic's compressed format (https://github.com/nianticlabs/spz, versions 2 and 3).

A gzip stream: a header of 16 bytes, then of all splats positions, alphas, colours, scales, rotations, and harmonics
above band 0. Axes are right, up, back where a PLY has right, down, forward: y and z have the other sign.
"""

import gzip
import struct
from pathlib import Path

import numpy as np

from blocknerf.core.errors import UserError
from blocknerf.core.files import write_bytes
from blocknerf.core.reading import opened_gzip
from blocknerf.export.splats import Splats, transformed
from blocknerf.geometry.harmonics import MOST_DEGREE, num_harmonics
from blocknerf.geometry.similarity import Similarity

_HEADER = struct.Struct("<4sIIBBBB")
_MAGIC = b"NGSP"
_VERSION = 3
_COLOUR_SCALE = 0.15  # of band 0 in a byte: colours that other bands bring back into range must fit
_MOST_FRACTION_BITS = 16
_LARGEST_FIXED = (1 << 23) - 1
_MAGNITUDE = 511  # of a quaternion's component, in steps up to 1 / sqrt(2)
_LARGEST_PART = 2**-0.5
_MOST_GROWTH, _SMALL = 24, 64 << 20
"""Real splats grow two to four times when they are unpacked; what stays below _SMALL bytes may be of one colour."""
_TURN = Similarity(1.0, np.diag([1.0, -1.0, -1.0]), np.zeros(3))  # its own inverse


def write_splats_spz(path: Path, splats: Splats) -> None:
    """Version 3. Raises UserError if a splat is farther out than 24 bits can hold."""
    turned = transformed(splats, _TURN)
    farthest = float(np.abs(turned.means).max(initial=1e-9))
    bits = min(_MOST_FRACTION_BITS, int(np.floor(np.log2(_LARGEST_FIXED / farthest))))
    if bits < 1:
        raise UserError(f"SPZ holds places up to {_LARGEST_FIXED // 2} m, and one lies at {farthest:.0f} m. Write PLY.")
    header = _HEADER.pack(_MAGIC, _VERSION, len(splats), splats.degree, bits, 0, 0)
    parts = [
        _fixed(turned.means, bits),
        _bytes(255 * turned.opacities),
        _bytes((turned.harmonics[:, 0] * _COLOUR_SCALE + 0.5) * 255),
        _bytes((turned.log_scales + 10) * 16),
        _smallest_three(turned.quaternions),
        _bytes(turned.harmonics[:, 1:] * 128 + 128),
    ]
    write_bytes(path, gzip.compress(header + b"".join(part.tobytes() for part in parts), mtime=0))


def read_splats_spz(path: Path) -> Splats:
    """Versions 2 and 3. Raises UserError if the file is damaged or of another version."""
    with opened_gzip(path, "SPZ file") as stream:
        head = stream.read(_HEADER.size)
        if len(head) < _HEADER.size or head[:4] != _MAGIC:
            raise UserError(f"{path} is not an SPZ file: it does not begin with NGSP.")
        _, version, count, degree, bits, _, _ = _HEADER.unpack(head)
        rest = num_harmonics(min(degree, MOST_DEGREE)) - 1
        widths = (9, 1, 3, 3, 4 if version == 3 else 3, 3 * rest)
        wanted, most = count * sum(widths), max(_SMALL, _MOST_GROWTH * path.stat().st_size)
        content = stream.read(min(wanted, most))
    if version not in (2, 3) or degree > MOST_DEGREE:
        raise UserError(
            f"{path} is SPZ of version {version} with harmonics of degree {degree}; versions 2 and 3 up to degree "
            f"{MOST_DEGREE} can be read. Convert it to PLY."
        )
    if wanted > most:
        raise UserError(
            f"{path} announces {count} splats, {wanted} bytes when unpacked: more than {_MOST_GROWTH} times the file, "
            "which no real splats are. It is left as it is."
        )
    if len(content) < wanted:
        raise UserError(f"{path} is truncated: {count} splats do not fit in it. Copy it again.")
    begins = (count * np.cumsum((0, *widths))).tolist()
    means, alphas, colours, scales, turns, above = (
        np.frombuffer(content, np.uint8, count * width, begin).reshape(count, width)
        for begin, width in zip(begins, widths, strict=False)
    )
    opacity = np.clip(alphas[:, 0] / np.float64(255), 1e-6, 1 - 1e-6)
    flat = ((colours / np.float64(255) - 0.5) / _COLOUR_SCALE)[:, None]
    higher = ((above.astype(np.float64) - 128) / 128).reshape(count, rest, 3)
    splats = Splats(
        _unfixed(means, bits),
        (scales / np.float32(16) - 10).astype(np.float32),
        _from_smallest_three(turns) if version == 3 else _from_xyz(turns),
        np.log(opacity / (1 - opacity)).astype(np.float32),
        np.concatenate([flat, higher], axis=1).astype(np.float32),
    )
    return transformed(splats, _TURN)


def _bytes(values: np.ndarray) -> np.ndarray:
    return np.clip(np.round(values), 0, 255).astype(np.uint8)


def _fixed(means: np.ndarray, bits: int) -> np.ndarray:
    """24 bits, two's complement, low byte first."""
    whole = np.round(means.astype(np.float64) * (1 << bits)).astype("<i4")
    return np.ascontiguousarray(whole).view(np.uint8).reshape(-1, 3, 4)[:, :, :3]


def _unfixed(packed: np.ndarray, bits: int) -> np.ndarray:
    wide = np.zeros((len(packed), 3, 4), np.uint8)
    wide[:, :, 1:] = packed.reshape(-1, 3, 3)
    whole = wide.view("<i4")[:, :, 0] >> 8  # the sign comes along
    return (whole / np.float64(1 << bits)).astype(np.float32)


def _smallest_three(quaternions: np.ndarray) -> np.ndarray:
    """32 bits: which of x, y, z, w is largest, then sign and magnitude of the others, in that order."""
    xyzw = quaternions[:, [1, 2, 3, 0]].astype(np.float64)
    xyzw /= np.linalg.norm(xyzw, axis=1, keepdims=True).clip(min=1e-30)
    largest = np.abs(xyzw).argmax(axis=1)
    xyzw *= np.where(np.take_along_axis(xyzw, largest[:, None], 1) < 0, -1, 1)
    packed = largest.astype(np.uint32)
    for axis in range(4):
        magnitude = np.minimum(np.round(np.abs(xyzw[:, axis]) / _LARGEST_PART * _MAGNITUDE), _MAGNITUDE)
        code = (xyzw[:, axis] < 0).astype(np.uint32) << 9 | magnitude.astype(np.uint32)
        packed = np.where(axis == largest, packed, packed << 10 | code).astype(np.uint32)
    return packed.astype("<u4").view(np.uint8).reshape(-1, 4)


def _from_smallest_three(packed: np.ndarray) -> np.ndarray:
    left = np.ascontiguousarray(packed).view("<u4")[:, 0].astype(np.uint32)
    largest = left >> 30
    xyzw = np.zeros((len(left), 4))
    for axis in (3, 2, 1, 0):
        is_stored = axis != largest
        part = (left & _MAGNITUDE) * (_LARGEST_PART / _MAGNITUDE) * np.where(left >> 9 & 1, -1, 1)
        xyzw[:, axis] = np.where(is_stored, part, 0)
        left = np.where(is_stored, left >> 10, left)
    missing = np.sqrt(np.maximum(1 - np.square(xyzw).sum(axis=1), 0))
    xyzw[np.arange(len(xyzw)), largest] = missing
    return xyzw[:, [3, 0, 1, 2]].astype(np.float32)


def _from_xyz(packed: np.ndarray) -> np.ndarray:
    xyz = packed / np.float64(127.5) - 1
    w = np.sqrt(np.maximum(1 - np.square(xyz).sum(axis=1, keepdims=True), 0))
    return np.concatenate([w, xyz], axis=1).astype(np.float32)
