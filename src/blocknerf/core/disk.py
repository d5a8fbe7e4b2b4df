"""Every call that changes the disk: the whole program opens for writing, writes, renames and removes through this
module.

So tests can make the n-th call fail, or end the process at it (`faults`). Ordinary runs pay one comparison with None.
Files that must be whole or absent are written by `core.files`, which builds on this module.
"""

import ctypes
import errno
import io
import os
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeVar, runtime_checkable

T = TypeVar("T")
_BUFFER_BYTES = 1 << 20
_COPIED_BYTES = 1 << 22
_LONGEST_NAME_BYTES = 150
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
_ENDINGS = (".tmp", ".lock", ".old")


@runtime_checkable
class Fault(Protocol):
    """Intercepts a call: `do` makes it; `half` writes the first half, if it writes bytes."""

    def __call__(self, kind: str, path: str, do: Callable[[], T], half: Callable[[], Any] | None) -> T: ...


_fault: Fault | None = None


@contextmanager
def faults(fault: Fault) -> Iterator[None]:
    """While the context lasts, every call of this module in this process goes through `fault`."""
    global _fault
    before, _fault = _fault, fault
    try:
        yield
    finally:
        _fault = before


def _call(kind: str, path: Any, do: Callable[[], T], half: Callable[[], Any] | None = None) -> T:
    return do() if _fault is None else _fault(kind, str(path), do, half)


# --- files ------------------------------------------------------------------------------------------------------------


class _Written(io.FileIO):
    """Hands every piece that is written to `_call`."""

    def write(self, content: Any) -> int:
        view = memoryview(content).cast("B")
        write = super().write
        half = view[: len(view) // 2]
        return _call("write", self.name, lambda: write(view), lambda: write(half))


def create(path: Path) -> BinaryIO:
    """A new file to write. An existing file or link of this name is replaced, never written into."""

    def opened() -> BinaryIO:
        with suppress(FileNotFoundError):
            os.unlink(path)
        return io.BufferedWriter(_Written(path, "xb"), _BUFFER_BYTES)

    return _call("open", path, opened)


def reopen(path: Path) -> BinaryIO:
    """A file to read and write in place, without a buffer. Created if missing. Not a link."""
    return _call("open", path, lambda: _Written(path, "r+b", opener=_or_made))


def _or_made(path: Any, flags: int) -> int:
    return os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW, 0o666)


def open_shared(path: Path) -> int:
    """The descriptor of a file that several processes have open, such as a lock. Created if missing."""
    return _call("open", path, lambda: os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666))


def reserve(path: Path, num_bytes: int) -> int:
    """A new file of zeros, as a descriptor to read and write; its room on the disk is taken now.

    A disk without room is an error here, and not a crash when mapped memory is written to.
    """

    def opened() -> int:
        with suppress(FileNotFoundError):
            os.unlink(path)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)

    handle = _call("open", path, opened)
    try:
        if num_bytes:
            _call("allocate", path, lambda: os.posix_fallocate(handle, 0, num_bytes))
    except BaseException:
        os.close(handle)
        raise
    return handle


def write_at(handle: int, content: Any, at_byte: int) -> None:
    """All of `content` (anything with a buffer) at that place of a file that `reserve` made."""
    view = memoryview(content).cast("B")
    while view:
        written = _write_part(handle, view, at_byte)
        view, at_byte = view[written:], at_byte + written


def _write_part(handle: int, view: memoryview, at_byte: int) -> int:
    half = view[: len(view) // 2]
    return _call("write", handle, lambda: os.pwrite(handle, view, at_byte), lambda: os.pwrite(handle, half, at_byte))


def mapped(path: Path, dtype: Any, shape: tuple[int, ...]) -> Any:
    """A new file as an array of zeros in mapped memory, to be read and written."""
    import numpy as np  # late: messages stand on this module, and are there where numpy finds no memory

    num_bytes = int(np.dtype(dtype).itemsize * np.prod(shape, dtype=np.int64))
    os.close(reserve(path, num_bytes))
    return np.asarray(np.memmap(path, dtype, "r+", shape=shape)) if num_bytes else np.zeros(shape, dtype)


def by_library(path: Path, write: Callable[[], T]) -> T:
    """What another library writes at `path`, not through a link: one call of this module."""

    def whole() -> T:
        if path.is_symlink():
            os.unlink(path)
        return write()

    def half() -> None:
        write()
        if path.is_file():
            os.truncate(path, path.stat().st_size // 2)

    return _call("library", path, whole, half)


def truncate(file: BinaryIO, num_bytes: int) -> None:
    _call("truncate", file.name, lambda: file.truncate(num_bytes))


def fsync(file: BinaryIO | int) -> None:
    _call("fsync", file if isinstance(file, int) else file.name, lambda: os.fsync(file))


def fsync_path(path: Path) -> None:
    """A file, or a folder, whose renames and removals are then permanent."""
    handle = os.open(path, os.O_RDONLY)
    try:
        _call("fsync", path, lambda: os.fsync(handle))
    finally:
        os.close(handle)


def copy(source: Path, target: Path) -> None:
    """The bytes of `source` as the new file `target`."""
    with source.open("rb") as read, create(target) as written:
        while piece := read.read(_COPIED_BYTES):
            written.write(piece)


# --- names ------------------------------------------------------------------------------------------------------------


def replace(source: Path, target: Path) -> None:
    _call("rename", target, lambda: os.replace(source, target))


def exchange(one: Path, other: Path) -> bool:
    """Exchanges two names of one folder atomically; False if the system or its disk cannot."""
    return _call("rename", other, lambda: _exchanged(one, other))


def _exchanged(one: Path, other: Path) -> bool:
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    if rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP):
        return False
    raise OSError(number, os.strerror(number), str(other))


def unlink(path: Path, missing_ok: bool = False) -> None:
    _call("unlink", path, lambda: path.unlink(missing_ok))


def link(source: Path, target: Path) -> None:
    _call("link", target, lambda: os.link(source, target))


def symlink(source: Path, target: Path) -> None:
    _call("link", target, lambda: os.symlink(source, target))


def make_folder(path: Path) -> None:
    """With the folders above it, where they are not there."""
    if path.is_dir():
        return
    if path.parent != path:
        make_folder(path.parent)
    _call("mkdir", path, lambda: path.mkdir(exist_ok=True))


def rmdir(path: Path) -> None:
    _call("rmdir", path, path.rmdir)


def remove_tree(path: Path) -> None:
    """A folder with all its content, or a file. Links are removed, not followed. Nothing happens if it is missing."""
    if path.is_symlink() or not path.is_dir():
        unlink(path, missing_ok=True)
        return
    with os.scandir(path) as entries:
        inside = sorted(entry.name for entry in entries)
    for name in inside:
        remove_tree(path / name)
    rmdir(path)


# --- temporary names --------------------------------------------------------------------------------------------------


def temporary(path: Path, ending: str = "tmp") -> Path:
    """The temporary name for `path`: hidden beside it, with the machine and the process in the name, so that later
    commands can tell whether it is still being written."""
    return path.with_name(f"{_hidden(path.name)}.{_host()}.{os.getpid()}.{ending}")


def is_unfinished(name: str) -> bool:
    """Whether a file of this name is temporary or a lock, and so nobody's data."""
    return name.startswith(".") and name.endswith(_ENDINGS)


def leftovers(folder: Path, name: str | None = None) -> list[Path]:
    """Temporary files of killed processes in `folder` (only for `name`, if given), by name.

    Only the holder of its lock may treat them all as leftovers: see core.lock.
    """
    begin = "." if name is None else f"{_hidden(name)}."
    process_tag = f".{_host()}.{os.getpid()}."
    try:
        inside = sorted(os.listdir(folder))
    except OSError:
        return []
    return [
        folder / found
        for found in inside
        if found.startswith(begin) and re.search(r"\.\d+\.tmp$", found) and process_tag not in found
    ]


def is_of_living(path: Path) -> bool:
    """Whether the process in a temporary name may still be running; one of another machine may."""
    host, pid = path.name.rsplit(".", 3)[-3:-1]
    return host != _host() or is_alive(int(pid))


def is_alive(pid: int) -> bool:
    """Whether this machine has a process of that number."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True


def _hidden(name: str) -> str:
    """Adds a leading dot and cuts long names to a part that still distinguishes them."""
    content = name.encode(errors="surrogateescape")
    if len(content) <= _LONGEST_NAME_BYTES:
        return f".{name}"
    return f".{content[:100].decode(errors='ignore')}-{sha256(content).hexdigest()[:16]}"


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())[:40] or "-"
