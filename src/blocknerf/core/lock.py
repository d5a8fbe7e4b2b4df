"""Locks: a folder or file belongs to one process while it holds the lock on it.

The lock is the system's own (flock) on a small hidden file, whose content names the holder. It ends with the last
process that has the file open, so nobody waits for a dead process. It also works between containers and machines that
share a file system with locks. If a disk has no locks, one message says so, and nothing is locked.
"""

import errno
import fcntl
import json
import math
import os
import shlex
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import reduction
from pathlib import Path
from typing import Any

from blocknerf.core import disk
from blocknerf.core.errors import UserError
from blocknerf.core.logging import log
from blocknerf.core.system_errors import reason, remedy

NAME = ".lock"
SAVING_S = 60.0
"""How long to wait for workers of a killed process, which save and end."""
_LOOK_S = 0.05
_LONGEST_COMMAND = 120
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)

_held: dict[tuple[int, str], "Held"] = {}
"""Locks of this process, by thread and place: a holder may take its lock again."""
_warned: set[str] = set()
_alone: dict[str, tuple["Held", set[str]]] = {}
"""Folders that this process has exclusively, and the folders in them that were swept since."""


@dataclass(frozen=True, slots=True)
class Held:
    """A lock of this process.

    A process that gets it at its start holds it as well, and keeps holding it. `handle` is None if the disk has no
    locks.
    """

    handle: int | None

    def __reduce__(self) -> Any:
        return _inherited, (None if self.handle is None else reduction.DupFd(self.handle),)

    def sweep(self, folder: Path, name: str | None = None) -> None:
        """Removes temporary files of killed processes in `folder` (only for `name`, if given).

        On a disk without locks, only those that certainly belong to a dead process of this machine.
        """
        for path in disk.leftovers(folder, name):
            if self.handle is not None or not disk.is_of_living(path):
                disk.remove_tree(path)


def _inherited(handle: Any) -> Held:
    return Held(None if handle is None else handle.detach())


@contextmanager
def locked_folder(
    folder: Path, what: str, wait_s: float = 0.0, shared: bool = False, below: bool = True
) -> Iterator[Held]:
    """`folder`, created if missing, belongs to this process exclusively. `shared`: others may share it, but not have it
    exclusively.

    `what` begins the message, as in "The report in OUT is being written". What killed processes were making there is
    removed; with `below` in folders below as well, before something is written there (`sweep_once`): not where others
    are sent the lock, and write there too. Raises UserError that says who has it, after `wait_s` seconds; and where
    nothing can be written there.
    """
    place = os.path.abspath(folder)
    with _locked(folder / NAME, what, wait_s, shared) as held:
        if not shared:
            held.sweep(folder)
        if shared or not below or place in _alone:
            yield held
            return
        _alone[place] = held, {place}
        try:
            yield held
        finally:
            del _alone[place]


def sweep_once(folder: Path) -> None:
    """Before something is written there: what killed processes were making in `folder` is removed.

    Once while this process has `folder` or one above it for itself; otherwise it is left to who has.
    """
    place = os.path.abspath(folder)
    for above in (place, *map(str, Path(place).parents)) if _alone else ():
        if above in _alone:
            held, swept = _alone[above]
            if place not in swept:
                swept.add(place)
                held.sweep(folder)
            return


@contextmanager
def locked_file(path: Path, what: str, wait_s: float = 0.0) -> Iterator[Held]:
    """As `locked_folder`, for one file, or a folder that is put in its place whole: the lock lies beside it."""
    with _locked(path.with_name(f".{path.name}{NAME}"), what, wait_s, shared=False) as held:
        held.sweep(path.parent, path.name)
        yield held


def is_locked(folder: Path) -> bool:
    """Whether any process holds `folder`, alone or shared."""
    try:
        handle = os.open(folder / NAME, os.O_RDWR)
    except OSError:
        return False
    try:
        return not _try(handle, fcntl.LOCK_EX)
    except OSError:
        return False
    finally:
        os.close(handle)


def holder(folder: Path) -> str:
    """The holder, as in "`blocknerf train ...`, process 123 on host, since 12:00"."""
    return _described(_read(folder / NAME))


@contextmanager
def _locked(place: Path, what: str, wait_s: float, shared: bool) -> Iterator[Held]:
    key = threading.get_ident(), os.path.abspath(place)
    if key in _held:
        yield _held[key]
        return
    new = [folder for folder in place.parents if not folder.exists()]
    try:
        handle = _acquired(place, what, wait_s, shared)
        _held[key] = Held(handle)
        try:
            yield _held[key]
        finally:
            del _held[key]
            if handle is not None:
                os.close(handle)
                _tidy(place)
    finally:
        for folder in new:
            with suppress(OSError):  # something lies in it, or it never came to be
                folder.rmdir()


def _acquired(place: Path, what: str, wait_s: float, shared: bool) -> int | None:
    """The descriptor that holds the lock; None if the disk has no locks."""
    begin, waits = time.monotonic(), False
    while True:
        handle = _opened(place)
        try:
            if _try(handle, fcntl.LOCK_SH if shared else fcntl.LOCK_EX):
                if _is_still(handle, place):
                    if not shared:
                        _say_who(handle)
                    return handle
                os.close(handle)
                continue
        except OSError as error:
            os.close(handle)
            if error.errno not in _NO_LOCKS:
                raise UserError(f"Cannot lock {place}: {reason(error)}; {remedy(error)}.") from error
            _warn_once(place)
            return None
        os.close(handle)
        who = _read(place)
        patience_s = max(wait_s, SAVING_S if _is_dead(who) else 0.0)
        if time.monotonic() - begin >= patience_s:
            raise UserError(
                f"{what} by {_described(who)}. Wait until it has ended, or stop it, then run the same command again."
            )
        if not waits:
            log.info("%s by %s; waiting for it.", what, _described(who))
            waits = True
        time.sleep(_LOOK_S)


def _opened(place: Path) -> int:
    try:
        disk.make_folder(place.parent)
        return disk.open_shared(place)
    except OSError as error:
        raise UserError(
            f"Cannot write in {place.parent}: {reason(error)}. What lies there is untouched; {remedy(error)}, then run "
            "the same command again."
        ) from error


def _try(handle: int, kind: int) -> bool:
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_still(handle: int, place: Path) -> bool:
    """Whether the locked file is still the one at its path: its last holder may just have removed it."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(place))
    except FileNotFoundError:
        return False


def _tidy(place: Path) -> None:
    """Removes the file of a lock that nobody holds. A leftover file does no harm."""
    with suppress(OSError):
        handle = os.open(place, os.O_RDWR)
        try:
            if _try(handle, fcntl.LOCK_EX) and _is_still(handle, place):
                os.unlink(place)
        finally:
            os.close(handle)


def _say_who(handle: int) -> None:
    """Only for messages: on a full disk the lock works without it."""
    command = shlex.join([os.path.basename(sys.argv[0]), *sys.argv[1:]])
    who = {"host": socket.gethostname(), "pid": os.getpid(), "since": time.time(), "command": command}
    with suppress(OSError):
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps(who).encode(), 0)


def _read(place: Path) -> dict[str, Any]:
    """Empty if no holder has written anything yet."""
    try:
        who = json.loads(place.read_bytes()[:65536])
    except (OSError, ValueError, RecursionError):
        return {}
    kinds = {"host": str, "pid": int, "since": float, "command": str}
    known = isinstance(who, dict) and all(isinstance(who.get(key), kind) for key, kind in kinds.items())
    return who if known and math.isfinite(who["since"]) and 0 <= who["since"] < 2**35 and who["pid"] > 0 else {}


def _is_dead(who: dict[str, Any]) -> bool:
    """Whether the process of this machine that took the lock has ended, so that only its workers hold it."""
    return bool(who) and who["host"] == socket.gethostname() and not disk.is_alive(who["pid"])


def _described(who: dict[str, Any]) -> str:
    if not who:
        return "another process"
    command = who["command"]
    shortened = command if len(command) <= _LONGEST_COMMAND else f"{command[:_LONGEST_COMMAND]}..."
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(who["since"]))
    ended = ", which has ended and whose workers still save" if _is_dead(who) else ""
    return f"`{shortened}` (process {who['pid']} on {who['host'][:64]}, since {since}){ended}"


def _warn_once(place: Path) -> None:
    folder = str(place.parent)
    if folder not in _warned:
        _warned.add(folder)
        log.warning("The disk of %s has no locks: do not let two commands write there at the same time.", folder)
