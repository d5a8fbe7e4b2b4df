"""Where this machine caches what can be made again: copies of URLs, compiled code, tables of fonts."""

import os
import stat
import tempfile
from pathlib import Path

from blocknerf.core.errors import UserError
from blocknerf.core.logging import log
from blocknerf.core.system_errors import reason

CACHE_VARIABLE = "BLOCKNERF_CACHE_DIR"
"""Names the folder; without it, ~/.cache/blocknerf."""
_FONTS_VARIABLE = "MPLCONFIGDIR"
_announced: set[Path] = set()


def cache_folder() -> Path:
    """The folder in BLOCKNERF_CACHE_DIR, or else ~/.cache/blocknerf.

    If there is no writable home: a private folder among temporary files, with one message. Raises UserError if that is
    not writable either.
    """
    named = os.environ.get(CACHE_VARIABLE)
    return Path(named) if named else _at_home() or _among_temporary_files()


def settle_fonts() -> None:
    """If the home is not writable, matplotlib also keeps its table of fonts in `cache_folder`."""
    if _FONTS_VARIABLE not in os.environ and _at_home() is None:
        os.environ[_FONTS_VARIABLE] = str(cache_folder() / "matplotlib")


def _at_home() -> Path | None:
    try:
        folder = Path.home() / ".cache" / "blocknerf"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # RuntimeError: the user's home is unknown
        return None
    return folder if os.access(folder, os.W_OK | os.X_OK) else None


def _among_temporary_files() -> Path:
    """Compiled code is kept here, so a folder that others can write to is not used."""
    try:
        folder = Path(tempfile.gettempdir()) / f"blocknerf-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022
        if not is_ours or not os.access(folder, os.W_OK | os.X_OK):
            folder = Path(tempfile.mkdtemp(prefix="blocknerf-"))
    except OSError as error:
        raise UserError(
            f"Nothing can be written at home, nor among temporary files ({reason(error)}). Set {CACHE_VARIABLE} to a "
            "folder that can be written to."
        ) from error
    if folder not in _announced:
        _announced.add(folder)
        log.info(
            "Nothing can be written at home: compiled code is kept in %s (%s names another).", folder, CACHE_VARIABLE
        )
    return folder
