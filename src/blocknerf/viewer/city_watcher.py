"""The present state of a city on disk, while blocks may still be trained."""

import contextlib
from pathlib import Path

from blocknerf.city.city import City
from blocknerf.city.manifest import block_folder, read_manifest
from blocknerf.city.states import BEST, LATEST
from blocknerf.runtime.devices import CPU

Signature = tuple[tuple[str, int, int], ...]


class CityWatcher:
    """`city` is that of the last `refresh`. For use by one thread."""

    def __init__(self, out: Path, state: str = LATEST, device: str = CPU):
        """Raises UserError if nothing has been trained yet."""
        self._out, self._state, self._device = out, state, device
        self._blocks = read_manifest(out).blocks
        self._opened = Signature()
        self.city = self._open()

    def refresh(self) -> bool:
        """Reopens the city if any of its files has changed, and returns whether it did.

        Raises UserError if that is not possible; `city` is then the old one, until a file changes again.
        """
        if self._signature() == self._opened:
            return False
        self.city = self._open()
        return True

    def _open(self) -> City:
        self._opened = self._signature()
        city = City.open(self._out, state=self._state, device=self._device)
        self._blocks = city.manifest.blocks
        return city

    def _signature(self) -> Signature:
        """Identifies files by inode number: a new file is renamed into place, so its number differs."""
        paths = [self._out / "city.json", self._out / "alignment.json"]
        names = {LATEST, BEST} if self._state == BEST else {LATEST}
        for block in self._blocks:
            folder = block_folder(self._out, block.id)
            paths += [folder / f"{name}.json" for name in sorted({*block.files, *names})]
        found = []
        for path in paths:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):  # not trained yet, or just replaced
                status = path.stat()
                found.append((str(path), status.st_mtime_ns, status.st_ino))
        return tuple(found)
