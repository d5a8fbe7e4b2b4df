"""Hostile files: a valid one, with something in it replaced, twice, missing, nested, cut off or turned over.

A mutation is a function of a random generator and of the bytes of a valid file. By structure: it knows what a JSON
tree, a line of numbers, an array's header or a compressed stream is, so that what it makes comes past the first check.
"""

import copy
import gzip
import hashlib
import json
import math
import struct
from collections.abc import Callable
from random import Random
from typing import Any

from blocknerf.core.stored import CHECKSUM
from tests.support.writers import framed

Mutation = Callable[[Random, bytes], bytes]

_RAW = "\0raw\0"
"""Marks text that stands in JSON as it is: what `json.dumps` would not write."""
DEEP = "[" * 100 + "]" * 100
_LONG = "x" * 5000
HOSTILE: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    1,
    -1,
    2,
    0.0,
    -0.5,
    1e-320,
    1e39,
    -1e39,
    1e160,
    1e308,
    2**31,
    2**63,
    2**64,
    10**25,
    math.nan,
    math.inf,
    -math.inf,
    "",
    "0",
    "1.5",
    "nan",
    "../../up",
    "/etc/passwd",
    "a\\b",
    "C:\\x.png",
    _LONG,
    "ü\u202e",
    "\x1b[31m",
    [],
    {},
    [[]],
    [{}],
    {"": 0},
    ["a"],
    [None],
    [1, 2, 3],
    [math.nan] * 3,
    [1e39] * 12,
    [[0.0] * 4] * 4,
    [["x"]],
    {"a": {"b": []}},
    [0] * 1000,
    [[[1]]],
    "a\0b",
    "\ud800",
    f"{_RAW}1e400",
    f"{_RAW}{'9' * 5000}",
    f"{_RAW}{DEEP}",
    f"{_RAW}{'[' * 2000}",
    f"{_RAW}-",
    f"{_RAW}NaN",
    f"{_RAW}\\",
)
TOKENS = (
    "nan",
    "inf",
    "-inf",
    "1e39",
    "-1e39",
    "1e308",
    "1e400",
    "1e-320",
    "0",
    "-1",
    "1",
    "0.5",
    "4294967296",
    "9223372036854775808",
    "1152921504606846976",
    "9" * 400,
    "9" * 5000,
    "x",
    "",
    "#",
    ":",
    "\0",
    "\ufeff",
    "é",
    "½",
    "²",
    "0x10",
    "1_000",
    "--1",
    "1e",
    "../../up.png",
    "/dev/zero",
    "a" * 5000,
    '"',
    "'",
    "[" * 70,
    "{",
    "&a",
    "*a",
    "!!bool x",
    "!!python/name:os.system",
    "2001-01-01",
    "<<",
    "? ",
    "- ",
    "null",
    "true",
    "\t",
    "\r",
    "%",
    "{a: *b}",
    "1:2:3",
)
_WORDS = (
    0,
    1,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0xFFFF,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**40,
    2**60,
    2**63 - 1,
    2**63,
    2**64 - 1,
)
_FLOATS = (math.nan, math.inf, -math.inf, 1e39, -1e39, 1e308, 1e-320, -1.0, 0.0, 3.4e38)


def flip(rng: Random, content: bytes) -> bytes:
    """One to eight bytes are others."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 8)) if data else 0):
        place = rng.randrange(len(data))
        data[place] = rng.choice((data[place] ^ 1 << rng.randrange(8), rng.randrange(256), 0, 255))
    return bytes(data)


def cut(rng: Random, content: bytes) -> bytes:
    """Ends early, or lacks a piece."""
    begin = rng.randrange(len(content) + 1)
    return content[:begin] + (content[rng.randrange(begin, len(content) + 1) :] if rng.random() < 0.5 else b"")


def double(rng: Random, content: bytes) -> bytes:
    """A piece stands there again, there or elsewhere."""
    begin = rng.randrange(len(content) + 1)
    piece = content[begin : begin + rng.choice((1, 4, 8, 16, 64, 300))]
    place = rng.choice((begin, rng.randrange(len(content) + 1)))
    return content[:place] + piece * rng.choice((1, 1, 2, 20)) + content[place:]


def words(rng: Random, content: bytes) -> bytes:
    """A number of 1, 2, 4 or 8 bytes is one at the end of its range, or a float that is none."""
    data, size = bytearray(content), rng.choice((1, 2, 4, 4, 8, 8, 8))
    if len(data) < size:
        return content
    place = rng.randrange(len(data) - size + 1)
    if size >= 4 and rng.random() < 0.4:
        value = rng.choice(_FLOATS)
        packed = struct.pack("<d", value) if size == 8 else struct.pack("<f", max(min(value, 3.4e38), -3.4e38))
    else:
        packed = (rng.choice(_WORDS) % (1 << 8 * size)).to_bytes(size, rng.choice(("little", "big")))
    data[place : place + size] = packed
    return bytes(data)


BYTES = (flip, cut, double, words)


def tokens(rng: Random, content: bytes) -> bytes:
    """Words of a text are replaced, twice, missing; lines are moved, doubled and taken out."""
    lines = content.decode("utf-8", "replace").split("\n")
    for _ in range(rng.choice((1, 1, 2, 4))):
        row = rng.randrange(len(lines))
        what = rng.randrange(6)
        if what == 0:
            lines[row : row + 1] = []
        elif what == 1:
            lines.insert(rng.randrange(len(lines) + 1), lines[row])
        elif what == 2:
            lines.insert(row, rng.choice(TOKENS))
        else:
            parts = lines[row].split(" ")
            place = rng.randrange(len(parts))
            new = rng.choice(TOKENS)
            parts[place : place + 1] = [] if what == 3 else [new] if what == 4 else [parts[place], new]
            lines[row] = " ".join(parts)
        lines = lines or [""]
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def tree(rng: Random, content: bytes) -> bytes:
    """Of a JSON file one to three values are hostile, missing, nested, renamed or of another place in the file."""
    return dumped(rng, changed(rng, json.loads(content)))


def signed(rng: Random, content: bytes) -> bytes:
    """`tree` of a file of ours, whose checksum is made anew as a stranger would."""
    held = changed(rng, json.loads(content))
    if isinstance(held, dict) and rng.random() < 0.9:
        held.pop(CHECKSUM, None)
    return dumped(rng, held)


def changed(rng: Random, root: Any) -> Any:
    holder = {"root": root}
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        places = list(_places(holder))
        parent, key = rng.choice(places)
        what = rng.random()
        if what < 0.6:
            parent[key] = copy.deepcopy(rng.choice(HOSTILE))
        elif what < 0.7 and parent is not holder:
            del parent[key]
        elif what < 0.8:
            other, its_key = rng.choice(places)
            parent[key] = copy.deepcopy(other[its_key])
        elif what < 0.9 and isinstance(parent, dict) and parent is not holder:
            parent[rng.choice(("", "version", _LONG, "x", str(key).upper()))] = parent.pop(key)
        elif isinstance(parent[key], list):
            parent[key] = parent[key] * rng.choice((0, 2, 3)) if rng.random() < 0.5 else parent[key][:-1]
        else:
            parent[key] = [parent[key]]
    return holder["root"]


def _places(value: Any):
    """(container, key) of everything in a tree, without descending into long lists far."""
    stack = [value]
    while stack:
        outer = stack.pop()
        keys = list(outer) if isinstance(outer, dict) else range(min(len(outer), 40))
        for key in keys:
            yield outer, key
            if isinstance(outer[key], dict | list):
                stack.append(outer[key])


def dumped(rng: Random, value: Any) -> bytes:
    """JSON with what stands for raw text put in, sometimes with a key twice, a byte order mark, or another encoding."""
    text = json.dumps(value)
    while (begin := text.find('"\\u0000raw\\u0000')) >= 0:
        end = text.index('"', begin + 1)
        text = text[:begin] + text[begin + len('"\\u0000raw\\u0000') : end] + text[end + 1 :]
    what = rng.random()
    if what < 0.05 and text.startswith("{") and len(value) > 0:
        key = rng.choice(list(value))
        return ("{" + json.dumps(key) + ": 1, " + text[1:]).encode()
    if what < 0.1:
        return text.encode(rng.choice(("utf-8-sig", "utf-16", "utf-16-le", "utf-32")))
    return text.encode()


def unpacked(inner: tuple[Mutation, ...]) -> Mutation:
    """A gzip stream whose content is mutated, and packed again."""

    def mutate(rng: Random, content: bytes) -> bytes:
        return gzip.compress(rng.choice(inner)(rng, gzip.decompress(content)), 1, mtime=0)

    return mutate


def records(rng: Random, content: bytes) -> bytes:
    """A shard of TFRecords with one record mutated, checksums made anew; or its frame, compressed anew."""
    raw = gzip.decompress(content)
    if rng.random() < 0.2:
        return gzip.compress(rng.choice(BYTES)(rng, raw), 1, mtime=0)
    held, at = [], 0
    while at < len(raw):
        length = int.from_bytes(raw[at : at + 8], "little")
        held.append(raw[at + 12 : at + 12 + length])
        at += 16 + length
    place = rng.randrange(len(held))
    head = rng.random() < 0.7  # pixels and rays are most of a record, names and sizes the interesting part
    kept = held[place][400:] if head and len(held[place]) > 800 else b""
    held[place] = rng.choice(BYTES)(rng, held[place][: len(held[place]) - len(kept)]) + kept
    return gzip.compress(b"".join(map(framed, held)), 1, mtime=0)


def header(rng: Random, content: bytes) -> bytes:
    """An array of numpy whose header says something else; its length is made to fit."""
    length = int.from_bytes(content[8:10], "little")
    text = content[10 : 10 + length]
    new = rng.choice((tokens, flip, double))(rng, text) if rng.random() < 0.5 else _array_header(rng)
    return content[:8] + (len(new) % 65536).to_bytes(2, "little") + new + content[10 + length :]


def _array_header(rng: Random) -> bytes:
    kind = rng.choice(
        ("'<f4'", "'<f8'", "'|O'", "'<U9'", "'<c16'", "'|u1'", "'>i8'", "[('a','<f4')]", "'<f2'", "'<M8[s]'")
    )
    shape = rng.choice(
        ("()", "(0,)", "(3,4)", "(1099511627776, 8)", "(-1,)", "(3, 17)", "(17, 3)", f"({'9' * 30},)", "(1,)*9")
    )
    return f"{{'descr': {kind}, 'fortran_order': {rng.choice((True, False))}, 'shape': {shape}, }}\n".encode()


def tensors(rng: Random, content: bytes) -> bytes:
    """A safetensors file whose header is another."""
    length = int.from_bytes(content[:8], "little")
    new = tree(rng, content[8 : 8 + length])
    return len(new).to_bytes(8, "little") + new + content[8 + length :]


def pair(weights_name: str) -> Callable[[Random, dict[str, bytes]], dict[str, bytes]]:
    """Both files of a block: weights are mutated, and the JSON names their hash as a stranger would."""

    def mutate(rng: Random, files: dict[str, bytes]) -> dict[str, bytes]:
        (json_name,) = (name for name in files if name.endswith(".json"))
        weights = rng.choice((tensors, tensors, *BYTES))(rng, files[weights_name])
        held = json.loads(files[json_name])
        held.pop(CHECKSUM, None)
        held["weights"] |= {"sha256": hashlib.sha256(weights).hexdigest(), "bytes": len(weights)}
        return files | {weights_name: weights, json_name: json.dumps(held).encode()}

    return mutate


JSON = (tree, tree, tree, tree, flip, cut, double)
STORED = (signed, signed, signed, signed, tree, flip, cut, double)
TEXT = (tokens, tokens, tokens, flip, cut, double)
BINARY = (words, words, flip, cut, double)
NPY = (header, words, flip, cut, double)
GZIP = (unpacked((words, words, flip, cut, double)), unpacked((words, flip)), flip, cut)
RECORDS = (records, records, records, flip, cut)
PICTURE = (flip, cut, words, double)
