"""The city as it lies on the disk now, while blocks may still be trained."""

import contextlib
from pathlib import Path

from blocknerf.city.city import City
from blocknerf.city.manifest import block_folder, read_manifest
from blocknerf.city.states import BEST, LATEST
from blocknerf.runtime.devices import CPU

Signature = tuple[tuple[str, int, int], ...]


class CityWatcher:
    """`city` is that of the last `refresh`. Of one thread alone."""

    def __init__(self, out: Path, state: str = LATEST, device: str = CPU):
        """Raises UserError where nothing has been trained yet."""
        self._out, self._state, self._device = out, state, device
        self._blocks = read_manifest(out).blocks
        self._opened = Signature()
        self.city = self._open()

    def refresh(self) -> bool:
        """Opens the city anew where any of the files that it shows has changed, and says whether.

        Raises UserError where that is not possible; `city` is then the old one, until a file changes again.
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
        """What tells a new file from an old one: a file is renamed into its place, so it has another number."""
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
