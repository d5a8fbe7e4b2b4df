"""Gzip-compressed TFRecords of tf.train.Example, without TensorFlow.

A record is its length (uint64, little-endian), the masked CRC-32C of these 8 bytes, its bytes, and their masked CRC-32C
(https://www.tensorflow.org/tutorials/load_data/tfrecord). An Example is a protocol buffer: a map from names to lists
of bytes, of float32 or of int64 (tensorflow/core/example/feature.proto).
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from blocknerf.core.errors import UserError
from blocknerf.core.reading import Damaged, GzipReader, opened_gzip
from blocknerf.scene.crc32c_numba import masked_crc32c

Kind = Literal["bytes", "float32", "int64"]
_MOST_RECORD_BYTES = 1 << 30
"""A picture of 12 megapixels with its rays has 300 MB."""
_KINDS: dict[int, Kind] = {1: "bytes", 2: "float32", 3: "int64"}
_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5


@dataclass(frozen=True, slots=True)
class Feature:
    kind: Kind
    values: list[bytes] | np.ndarray  # bytes, or [n] float32 or int64


Example = dict[str, Feature]


def read_examples(path: Path) -> Iterator[Example]:
    """The records of a file, one at a time in memory.

    Raises UserError that names the file and the record (from 0) if a checksum is wrong, the file is truncated or not
    gzip, or a record is not an Example.
    """
    with opened_gzip(path, "shard of TFRecords") as stream:
        for number, content in enumerate(_records(stream, path)):
            try:
                yield parse_example(memoryview(content))
            except ValueError as error:
                raise UserError(f"{path}, record {number} is not a tf.train.Example: {error}.") from error


def _records(stream: GzipReader, path: Path) -> Iterator[bytes]:
    number = 0
    while header := _read(stream, 12, path, number, may_end=True):
        _check(header[:8], header[8:], f"{path}, record {number}: the checksum of its length is wrong")
        (length,) = struct.unpack("<Q", header[:8])
        if length > _MOST_RECORD_BYTES:
            raise UserError(f"{path}, record {number} announces {length} bytes; {_MOST_RECORD_BYTES} are read.")
        content = _read(stream, length, path, number)
        _check(content, _read(stream, 4, path, number), f"{path}, record {number}: its checksum is wrong")
        yield content
        number += 1


def _read(stream: GzipReader, count: int, path: Path, number: int, may_end: bool = False) -> bytes:
    try:
        content = stream.read(count)
    except Damaged as error:
        raise UserError(f"{path} is cut off or damaged in record {number}: {error}. Get the file again.") from error
    if len(content) < count and not (may_end and not content):
        raise UserError(f"{path} ends in the middle of record {number}. Get the file again.")
    return content


def _check(content: bytes, checksum: bytes, problem: str) -> None:
    if masked_crc32c(content) != struct.unpack("<I", checksum)[0]:
        raise UserError(f"{problem}; the file is damaged. Get it again.")


def parse_example(message: memoryview) -> Example:
    """Raises ValueError if the bytes are not an Example."""
    example: Example = {}
    for features in _messages(message, 1):
        for entry in _messages(features, 1):
            names, values = list(_messages(entry, 1)), list(_messages(entry, 2))
            if len(names) != 1 or len(values) != 1:
                raise ValueError("a feature has no name or no value")
            example[bytes(names[0]).decode()] = _feature(values[0])
    return example


def _feature(message: memoryview) -> Feature:
    for number, wire, value in _fields(message):
        if number in _KINDS and wire == _LENGTH and isinstance(value, memoryview):
            kind = _KINDS[number]
            return Feature(kind, _bytes(value) if kind == "bytes" else _numbers(value, kind))
    return Feature("bytes", [])


def _bytes(message: memoryview) -> list[bytes]:
    return [bytes(value) for value in _messages(message, 1)]


def _numbers(message: memoryview, kind: Kind) -> np.ndarray:
    """Packed, as written today, or each in a separate field."""
    pieces: list[np.ndarray] = []
    for number, wire, value in _fields(message):
        if number != 1:
            continue
        if isinstance(value, int):
            pieces.append(np.array([value], np.uint64).view(np.int64))
        elif kind == "int64":
            pieces.append(_varints(np.frombuffer(value, np.uint8)))
        elif wire in (_LENGTH, _FOUR_BYTES):
            pieces.append(np.frombuffer(value, "<f4"))
    return np.concatenate(pieces) if pieces else np.zeros(0, np.int64 if kind == "int64" else np.float32)


def _varints(raw: np.ndarray) -> np.ndarray:
    """Seven bits per byte, the lowest first; a byte below 128 ends a number."""
    ends = np.flatnonzero(raw < 0x80)
    if not len(raw):
        return np.zeros(0, np.int64)
    if not len(ends) or ends[-1] != len(raw) - 1:
        raise ValueError("its numbers end in the middle of one")
    starts = np.concatenate([[0], ends[:-1] + 1])
    places = np.arange(len(raw)) - np.repeat(starts, ends - starts + 1)
    if places.max() > 9:
        raise ValueError("a number has more than 64 bits")
    parts = (raw & 0x7F).astype(np.uint64) << (7 * places).astype(np.uint64)
    return np.add.reduceat(parts, starts).view(np.int64)


def _messages(message: memoryview, wanted: int) -> Iterator[memoryview]:
    for number, _, value in _fields(message):
        if number == wanted and isinstance(value, memoryview):
            yield value


def _fields(message: memoryview) -> Iterator[tuple[int, int, memoryview | int]]:
    """(number, wire type, value) of every field of a protocol buffer's message."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, at = _varint(message, at)
            yield number, wire, value
            continue
        if wire == _LENGTH:
            size, at = _varint(message, at)
        elif wire in (_EIGHT_BYTES, _FOUR_BYTES):
            size = 8 if wire == _EIGHT_BYTES else 4
        else:
            raise ValueError(f"a field has the wire type {wire}")
        if at + size > len(message):
            raise ValueError("it ends in the middle of a field")
        yield number, wire, message[at : at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value, shift = 0, 0
    while True:
        if at >= len(message) or shift > 63:
            raise ValueError("it ends in the middle of a number")
        value |= (message[at] & 0x7F) << shift
        at += 1
        if message[at - 1] < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at
        shift += 7
