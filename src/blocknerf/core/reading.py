"""Reads files that may come from strangers, within limits of memory and time.

For every content of a file, its reader returns what was asked for or raises UserError. Sizes are checked before
anything is allocated, numbers are finite, and only numbers, text, lists and mappings are built; nothing is run.
"""

import gzip
import io
import itertools
import json
import math
import os
import re
import stat
import zlib
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np
import yaml
from jaxtyping import Shaped

from blocknerf.core.errors import UserError, quote
from blocknerf.core.system_errors import reason, remedy

MOST_JSON_BYTES = 4 << 30
"""The largest table of nuScenes has 1.3 GB, a transforms.json of 100,000 frames 0.1."""
MOST_TEXT_BYTES = 1 << 30
"""A bundle.out of a hundred thousand photographs."""
MOST_YAML_BYTES = 128 << 10
"""A configuration with every key has 10 kB; YAML is read at 50 kB a second."""
MOST_DEPTH = 64
"""Nesting of lists and mappings; the deepest file of blocknerf has 9."""
_MOST_YAML_NODES = 100_000
"""Aliases count each time they are used."""
_MOST_DIGITS = 300
"""Of a whole number: one that a float can still hold."""
_MOST_NPY_HEADER = 1 << 16
_PIECE = 1 << 20

_REMEDY = "Make it again or restore a copy."


_TOO_DEEP = f"it holds more than {MOST_DEPTH} lists within each other"


class Damaged(ValueError):
    """Why a file's content is wrong: half a sentence, such as "it holds no numbers"."""


def is_file(path: Path) -> bool:
    """Whether the file exists; False for names that no file can have (too long, or with a zero byte)."""
    return os.path.isfile(path)


def read_bytes(path: Path, what: str, most_bytes: int = MOST_TEXT_BYTES) -> bytes:
    """The content of a file; `what` names it in messages ("plan", "transforms file").

    Raises UserError if it is missing, is not a plain file (a device or a pipe may have no end), has more than
    `most_bytes`, or cannot be read.
    """
    with opened(path, what) as handle:
        size = os.fstat(handle.fileno()).st_size
        if size > most_bytes:
            raise UserError(
                f"The {what} {path} has {size} bytes, and {most_bytes} are the most that is read. Is it the right file?"
            )
        return handle.read(size)


@contextmanager
def opened(path: Path, what: str) -> Iterator[BinaryIO]:
    """A plain file, open for reading. Raises UserError as `read_bytes` does, and for errors while it is read."""
    try:
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode):
            kind = "a folder" if stat.S_ISDIR(mode) else "a device or a pipe"
            raise UserError(f"The {what} {path} is {kind}, not a file.")
        with path.open("rb") as handle:
            yield handle
    except FileNotFoundError as error:
        raise UserError(f"There is no {what} at {path}.") from error
    except OSError as error:
        raise UserError(f"The {what} {path} cannot be read: {reason(error)}; {remedy(error)}.") from error
    except UserError:
        raise
    except Damaged as error:
        raise UserError(f"The {what} {path} is damaged: {error}. {_REMEDY}") from error
    except ValueError as error:  # a name with a zero in it, or of what is no character
        raise UserError(f"The {what} {path} cannot be read: {error}.") from error


def read_text(path: Path, what: str, most_bytes: int = MOST_TEXT_BYTES) -> str:
    """UTF-8, with or without a byte order mark, or UTF-16 with one.

    Invalid bytes become U+FFFD. Raises UserError as `read_bytes` does.
    """
    return decoded(read_bytes(path, what, most_bytes))


@contextmanager
def opened_text(path: Path, what: str) -> Iterator[io.TextIOWrapper]:
    """A text file of any length, to read line by line: UTF-8, with or without a byte order mark.

    Invalid bytes become U+FFFD. Raises UserError as `opened` does.
    """
    with opened(path, what) as handle:
        yield io.TextIOWrapper(handle, encoding="utf-8-sig", errors="replace")


def decoded(content: bytes, errors: str = "replace") -> str:
    """Decodes text as `read_text` does."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", errors)
    return content.decode("utf-8-sig", errors)


# --- JSON -------------------------------------------------------------------------------------------------------------


def read_json(
    path: Path, what: str, most_bytes: int = MOST_JSON_BYTES, allow_nan: bool = False, remedy: str = _REMEDY
) -> Any:
    """Reads a JSON file; `what` names it in the message ("plan", "transforms file").

    Raises UserError if it is missing or is not JSON, and for JSON that no valid file has: repeated keys, numbers too
    large for a float, more than MOST_DEPTH nested lists, text with a zero byte. `allow_nan`: NaN and infinity are
    returned, for readers that skip such entries.
    """
    content = read_bytes(path, what, most_bytes)
    try:
        return parse_json(content, allow_nan)
    except Damaged as error:
        raise UserError(f"The {what} {path} is damaged ({error}). {remedy}") from error


def parse_json(content: bytes, allow_nan: bool = False) -> Any:
    """What a JSON text holds. Raises Damaged as `read_json` does UserError."""
    try:
        text = decoded(content, "strict")
        floats = {} if allow_nan else {"parse_float": _float, "parse_constant": _no_number}
        tree = json.loads(text, object_pairs_hook=_unique, parse_int=_integer, **floats)
    except RecursionError as error:
        raise Damaged(_TOO_DEEP) from error
    except ValueError as error:
        raise Damaged(str(error)) from error
    if _ODD_ESCAPE.search(text):
        _require_characters(tree)
    _require_shallow(tree)
    return tree


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    tree = dict(pairs)
    if len(tree) < len(pairs):
        names = sorted(name for name, _ in pairs)
        twice = next(one for one, other in itertools.pairwise(names) if one == other)
        raise Damaged(f"the key {quote(twice)} stands there twice")
    return tree


def _float(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise Damaged(f"{quote(digits)} is larger than any number that a float can hold")
    return value


def _integer(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise Damaged(f"it holds a number of {len(digits)} digits")
    return int(digits)


def _no_number(name: str) -> NoReturn:
    raise Damaged(f"{name} is not a number that JSON has")


_ODD_ESCAPE = re.compile(r"\\u(0000|[dD][89a-fA-F])")


def _require_characters(tree: Any) -> None:
    """Escapes can produce what no name and no terminal accepts: zeros, and halves of UTF-16 pairs."""
    try:
        text = json.dumps(tree, ensure_ascii=False)
        text.encode()
    except RecursionError as error:
        raise Damaged(_TOO_DEEP) from error
    except UnicodeEncodeError as error:
        raise Damaged("it holds half of a character") from error
    if "\\u0000" in text.replace("\\\\", ""):
        raise Damaged("it holds text with a zero in it")


def _require_shallow(tree: Any) -> None:
    level = [tree]
    for _ in range(MOST_DEPTH):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return
    raise Damaged(_TOO_DEEP)


# --- YAML -------------------------------------------------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """Text, numbers, booleans, lists and mappings: a date is text, and no tag builds anything else.

    A repeated key is an error. The size of expanded aliases is counted beforehand.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth, self._sizes = 0, {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self._depth += 1
        if self._depth > MOST_DEPTH:
            raise Damaged(_TOO_DEEP)
        is_alias = self.check_event(yaml.AliasEvent)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if is_alias and node not in self._sizes:
            raise Damaged("an alias stands inside of what it stands for")
        if node is not None and not is_alias:
            self._sizes[node] = self._size(node)
        return node

    def _size(self, node: yaml.Node) -> int:
        if isinstance(node, yaml.ScalarNode):
            return 1
        inner = itertools.chain(*node.value) if isinstance(node, yaml.MappingNode) else node.value
        size = 1 + sum(self._sizes[one] for one in inner)
        if size > _MOST_YAML_NODES:
            raise Damaged(f"with its aliases it holds more than {_MOST_YAML_NODES} values")
        return size

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == _MERGE:
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                continue
            if key in seen:
                raise Damaged(f"the key {quote(key)} stands there twice, the second time in line {_line(key_node)}")
            seen.add(key)
        return super().construct_mapping(node, deep)

    def construct_scalar(self, node: yaml.ScalarNode) -> str:
        text = str(super().construct_scalar(node))
        if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
            raise Damaged(f"it holds text with a zero or half of a character in it, in line {_line(node)}")
        return text


def _line(node: yaml.Node) -> int:
    return node.start_mark.line + 1


_MERGE = "tag:yaml.org,2002:merge"
_TAGS = ("null", "bool", "int", "float", "seq", "map", "str")
_Loader.yaml_constructors = {
    tag: build
    for tag, build in yaml.SafeLoader.yaml_constructors.items()
    if tag is None or tag.rpartition(":")[2] in _TAGS
}
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_yaml(path: Path, what: str) -> Any:
    """Reads a YAML file of at most MOST_YAML_BYTES as text, numbers, booleans, lists and mappings.

    Raises UserError if it is missing or is not YAML, repeats a key, has aliases that grow too large, or has a tag for
    anything else.
    """
    content = read_bytes(path, what, MOST_YAML_BYTES)
    try:
        return parse_yaml(decoded(content, "strict"))
    except (Damaged, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not YAML: {error}.") from error


def parse_yaml(text: str) -> Any:
    """What a YAML text holds. Raises Damaged as `read_yaml` does UserError."""
    try:
        return _Loader(text).get_single_data()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f" in line {mark.line + 1}" if mark is not None else ""
        raise Damaged(f"{error.problem or error.context}{where}") from error
    except RecursionError as error:
        raise Damaged(_TOO_DEEP) from error
    except Damaged:
        raise
    except yaml.YAMLError as error:  # a character that YAML does not have
        raise Damaged(f"{error}") from error
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError) as error:
        raise Damaged(f"it holds a value that is not what its tag says ({error})") from error


# --- arrays -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Npy:
    dtype: np.dtype
    shape: tuple[int, ...]
    is_fortran: bool
    begin: int


_NPY = b"\x93NUMPY"
_DESCRIPTION = re.compile(r"""['"]descr['"]\s*:\s*['"]([<>|=]?[A-Za-z][0-9]{0,4})['"]""")
_FORTRAN = re.compile(r"""['"]fortran_order['"]\s*:\s*(True|False)""")
_SHAPE = re.compile(r"""['"]shape['"]\s*:\s*\(([0-9, ]*)\)""")


def read_npy(path: Path, what: str, kinds: str = "fiu", mapped: bool = False) -> Shaped[np.ndarray, "..."]:
    """An array of numpy's format, whose numbers are of one of `kinds` (numpy's letters: f float, i and u whole).

    `mapped`: it stays on the disk. Raises UserError where the file is missing, is another format (as .npz, or an array
    of Python objects, which could run code), or has not the length that its header says.
    """
    with opened(path, what) as handle:
        head = _npy_header(handle)
        if head.dtype.kind not in kinds:
            raise Damaged(f"it holds {head.dtype}, and no numbers of the kind that belongs there")
        count = math.prod(head.shape)
        wanted, available = count * head.dtype.itemsize, os.fstat(handle.fileno()).st_size - head.begin
        if wanted != available:
            raise Damaged(
                f"{quote(head.shape)} numbers of {head.dtype} are {quote(wanted)} bytes, and it has {available}"
            )
        order = "F" if head.is_fortran else "C"
        if mapped and count:
            return np.memmap(path, head.dtype, "r", head.begin, head.shape, order)
        flat = np.fromfile(handle, head.dtype, count)
    return flat.reshape(head.shape, order=order)


def _npy_header(handle: BinaryIO) -> _Npy:
    start = handle.read(10)
    if start[:2] == b"PK":
        raise Damaged("it is an archive of arrays (.npz); save the one array that belongs there with numpy.save")
    if start[:6] != _NPY or len(start) < 10 or start[6] not in (1, 2, 3):
        raise Damaged("it is not a numpy array (.npy)")
    length_bytes = start[8:] if start[6] == 1 else start[8:] + handle.read(2)
    length = int.from_bytes(length_bytes, "little")
    text = handle.read(min(length, _MOST_NPY_HEADER)).decode("latin-1")
    found = [pattern.search(text) for pattern in (_DESCRIPTION, _FORTRAN, _SHAPE)]
    if len(text) != length or not all(found):
        raise Damaged("its header is cut off, or it holds records or Python objects, which are not read")
    description, fortran, shape = (match[1] for match in found if match)
    try:
        dtype = np.dtype(description)
        sizes = tuple(int(size) for size in shape.replace(" ", "").split(",") if size)
    except (TypeError, ValueError) as error:
        raise Damaged(f"its header has the kind {quote(description)} and the shape {quote(shape)}") from error
    if dtype.hasobject:
        raise Damaged("it holds Python objects, which are not read since they may run code")
    if dtype.itemsize == 0 or len(sizes) > 8:
        raise Damaged(f"it holds {dtype} in {len(sizes)} dimensions")
    return _Npy(dtype, sizes, fortran == "True", handle.tell())


# --- gzip -------------------------------------------------------------------------------------------------------------


class GzipReader:
    """The content of a gzip file, piece by piece, and never more than requested."""

    def __init__(self, handle: BinaryIO) -> None:
        self._stream = gzip.GzipFile(fileobj=handle)

    def read(self, num_bytes: int) -> bytes:
        """The next bytes; fewer at the end.

        Memory grows with the content, not with the request. Raises Damaged if the file is damaged, truncated or not
        gzip.
        """
        pieces, left = [], num_bytes
        try:
            while left > 0 and (piece := self._stream.read(min(left, _PIECE))):
                pieces.append(piece)
                left -= len(piece)
        except gzip.BadGzipFile as error:
            raise Damaged(f"it is not compressed with gzip, or cut up ({error})") from error
        except (EOFError, zlib.error, OSError) as error:
            raise Damaged(f"it is cut off, or some of it is other than it was ({error})") from error
        return b"".join(pieces)


@contextmanager
def opened_gzip(path: Path, what: str) -> Iterator[GzipReader]:
    """Raises UserError as `opened` does."""
    with opened(path, what) as handle:
        yield GzipReader(handle)


def read_gzip(path: Path, what: str, most_bytes: int) -> bytes:
    """The whole content of a gzip file. Raises UserError if it is damaged, or expands to more than `most_bytes`."""
    with opened_gzip(path, what) as stream:
        content = stream.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise UserError(f"The {what} {path} grows to more than {most_bytes} bytes when it is unpacked, so it is left.")
    return content
