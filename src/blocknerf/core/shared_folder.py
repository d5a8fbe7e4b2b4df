"""A folder on a URL, and its copy on this machine that all other code uses.

Only this module knows that scenes and output folders may be on s3://, gs:// or another protocol of fsspec. Needed files
are pulled into a plain folder, and written files are pushed.
"""

import hashlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blocknerf.core import disk
from blocknerf.core.caches import cache_folder
from blocknerf.core.errors import UserError, quote
from blocknerf.core.files import write_json
from blocknerf.core.logging import console, log
from blocknerf.core.names import contained, owned
from blocknerf.core.reading import read_json

PROTOCOLS = ("s3", "s3a", "gs", "gcs", "abfs", "az", "http", "https", "sftp", "ssh", "file", "memory")
"""Allowed protocols: those of fsspec that reach plain folders. Archives, caches and chains are excluded."""
_THREADS = 16
_INDEX = ".shared.json"
_MANY = 100

Files = dict[str, dict[str, Any]]
"""What fsspec knows of files, by name relative to the folder."""


@dataclass(frozen=True, slots=True)
class SharedFolder:
    """The content of `url` and its pulled copy in `local`; without a URL, a plain folder that is never copied.

    Files are named relative to the folder, with forward slashes. The URL is the truth: `pull` replaces local files,
    `push` remote ones.
    """

    local: Path
    url: str | None = None

    @classmethod
    def at(cls, place: str | Path) -> "SharedFolder":
        """Raises UserError for a URL whose protocol is not in PROTOCOLS, or has no installed package."""
        if "://" not in str(place):
            return cls(Path(place))
        url = str(place).rstrip("/") if str(place).partition("://")[2].strip("/") else str(place)
        _require_followed(url)
        folder = cls(cache_folder() / hashlib.sha256(url.encode()).hexdigest()[:16], url)
        with folder._reached():
            return folder

    @classmethod
    def named_by(cls, file: Path, place: str, option: str) -> "SharedFolder":
        """The folder that a file names.

        The file may come from anybody, so a URL that no command on this machine was given needs consent. Raises
        UserError as `at` does, and if a person at the terminal refuses, or there is no terminal; `option` is the flag
        that consents.
        """
        folder = cls.at(place)
        if folder.url is None or (folder.local / _INDEX).is_file() or _agreed(f"{file} names {quote(place)}. Copy it?"):
            return folder
        raise UserError(
            f"{file} names {quote(place)}, and nothing is fetched from there unasked. Where you trust it, say so: "
            f"{option} {quote(place)}"
        )

    @property
    def place(self) -> str:
        """Where any machine finds it."""
        return self.url or str(self.local.resolve())

    def pull(self, *names: str, wanted: Callable[[str], bool] = lambda name: True) -> None:
        """Updates the local copy of files and folders `names` (default: all) that are `wanted`.

        Only changed files are copied. Raises UserError if the URL cannot be read.
        """
        if self.url is None:
            return
        with self._reached() as (system, root):
            listed = _listed(system, root, names)
            for name in listed:
                contained(self.local, name)
            remote = {name: info for name, info in listed.items() if wanted(name) and not _is_unfinished(name)}
            local = self._local_files(names)
            for name in local:
                if wanted(name) and name not in remote:
                    disk.unlink(self.local / name)
            equal = self._read_index()
            stale = [name for name, info in remote.items() if _is_other(name, local, info, equal)]
            if len(stale) > _MANY:
                log.info("Copying %d files of %s to %s.", len(stale), self.url, self.local)
            with ThreadPoolExecutor(_THREADS) as pool:
                list(pool.map(lambda name: self._download(system, root, name), stale))
            local = self._local_files(names)
            write_json(self.local / _INDEX, equal | {name: _mark(local[name], remote[name]) for name in stale})

    def push(self, *names: str) -> None:
        """Updates files and folders `names` at the URL from the local copy; deleted files are removed there.

        Each file is copied under a temporary name and renamed. JSON comes last, in the order of `names`, and is removed
        first: a reader never finds half a file, nor JSON that names missing weights. Only changed files are copied.
        Raises UserError if the URL cannot be written; files that were not renamed by then are unchanged.
        """
        if self.url is None:
            return
        with self._reached() as (system, root):
            local, remote, equal = self._local_files(names), _listed(system, root, names), self._read_index()
            stale = [name for name in local if name not in remote or _is_other(name, local, remote[name], equal)]
            for name in sorted(stale, key=_is_json):
                self._upload(system, root, name)
            for name in sorted(remote.keys() - local.keys(), key=lambda name: (not _is_json(name), name)):
                system.rm(_joined(root, name))
            system.invalidate_cache()
            remote = _listed(system, root, names)
            write_json(self.local / _INDEX, equal | {name: _mark(local[name], remote[name]) for name in stale})

    def holds(self, name: str, num_bytes: int) -> bool:
        """Whether the URL has a file of that name and size."""
        with self._reached() as (system, root):
            path = _joined(root, name)
            return system.exists(path) and system.info(path)["size"] == num_bytes

    def relative(self, path: Path) -> str:
        """The name of a path in `local`. Raises UserError for a path outside of it."""
        if not path.is_relative_to(self.local):
            raise UserError(f"{path} does not lie in {self.place}, where all that is shared must be.")
        return path.relative_to(self.local).as_posix()

    @contextmanager
    def _reached(self) -> Iterator[tuple[Any, str]]:
        """The file system and the folder's path on it."""
        import fsspec.core  # late: plain folders need none of it

        assert self.url is not None
        try:
            system, root = fsspec.core.url_to_fs(self.url)
        except (ImportError, ValueError) as error:
            raise UserError(
                f"{self.url} cannot be reached: {error}. URLs are those of fsspec, as s3://bucket/folder (needs "
                "`pip install s3fs`) or gs://bucket/folder (`pip install gcsfs`)."
            ) from error
        try:
            system.invalidate_cache()  # others write there as well
            yield system, str(root)
        except UserError:
            raise
        except Exception as error:  # every protocol raises errors of its own
            raise UserError(
                f"Copying from or to {self.url} failed ({type(error).__name__}: {error}). Check the address, the "
                "credentials and the room on either side, then run again."
            ) from error

    def _local_files(self, names: Sequence[str]) -> dict[str, os.stat_result]:
        """Files of `local` in the order of `names`, in each folder by name; without temporary files."""
        found: dict[str, os.stat_result] = {}
        for place in [self.local / name for name in names] or [self.local]:
            for path in [place] if place.is_file() else sorted(place.rglob("*")):
                if path.is_file() and path.name != _INDEX and not _is_unfinished(path.name):
                    found[path.relative_to(self.local).as_posix()] = path.stat()
        return found

    def _download(self, system: Any, root: str, name: str) -> None:
        """A copy can be made again: it is whole or absent, and not forced to the disk."""
        target = owned(self.local, name)
        beside = disk.temporary(target)
        disk.make_folder(target.parent)
        try:
            disk.by_library(beside, lambda: system.get_file(_joined(root, name), str(beside)))
            disk.replace(beside, target)
        finally:
            if beside.exists():
                disk.unlink(beside)

    def _upload(self, system: Any, root: str, name: str) -> None:
        parent, _, last = _joined(root, name).rpartition("/")
        beside = f"{parent}/{disk.temporary(Path(last)).name}"
        system.makedirs(parent, exist_ok=True)
        try:
            system.put_file(str(self.local / name), beside)
            system.mv(beside, f"{parent}/{last}")
        except BaseException:
            with suppress(Exception):  # the first error says more
                system.rm(beside)
            raise

    def _read_index(self) -> dict[str, str]:
        """By name: marks of files at the time when both sides were equal."""
        path = self.local / _INDEX
        with suppress(UserError):  # damaged: everything is copied again
            tree = read_json(path, "index of copies") if path.is_file() else {}
            return tree if isinstance(tree, dict) and all(isinstance(mark, str) for mark in tree.values()) else {}
        return {}


def _require_followed(url: str) -> None:
    import fsspec  # late: plain folders need none of it

    protocol = url.partition("://")[0]
    if "::" not in url and (protocol in PROTOCOLS or protocol not in {*fsspec.available_protocols(), *fsspec.registry}):
        return  # what nothing knows is said where it is reached
    raise UserError(
        f"{quote(url)} is not an allowed URL. Give a folder of this machine, or a URL that begins with "
        f"{', '.join(f'{name}://' for name in PROTOCOLS)}, without '::'; unpack an archive first."
    )


def _listed(system: Any, root: str, names: Iterable[str]) -> Files:
    """Files by their names below `root`, which may be empty or just a slash; links out of it are excluded."""
    paths = [_joined(root, name) for name in names] or [root]
    found = {path: info for top in paths for path, info in system.find(top, detail=True).items()}
    inside = _joined(root, "")
    return {path[len(inside) :].lstrip("/"): info for path, info in found.items() if path.startswith(inside)}


def _joined(root: str, name: str) -> str:
    """Some file systems name files at their root with a leading slash, some without."""
    return f"{root.rstrip('/')}/{name}" if root else name


def _agreed(question: str) -> bool:
    """The answer of a person at the terminal; False if there is no terminal."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    console.print(f"{question} [y/N]", markup=False, highlight=False, end=" ")
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _is_other(name: str, local: dict[str, os.stat_result], remote: dict[str, Any], equal: dict[str, str]) -> bool:
    """Whether a file is missing here, or either side may have changed since both were equal."""
    return name not in local or equal.get(name) != _mark(local[name], remote)


def _mark(local: os.stat_result, remote: dict[str, Any]) -> str:
    """Identifies this state of a file on both sides."""
    return hashlib.sha256(f"{remote} {local.st_mtime_ns} {local.st_size}".encode()).hexdigest()


def _is_unfinished(name: str) -> bool:
    return disk.is_unfinished(name.rpartition("/")[2])


def _is_json(name: str) -> bool:
    return name.endswith(".json")
