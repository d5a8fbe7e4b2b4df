"""One console, one logger; the log file stands in the output folder."""

import logging
from pathlib import Path

from rich.console import Console
from rich.logging import RichHandler

from blocknerf.core import disk
from blocknerf.core.errors import UserError
from blocknerf.core.system_errors import reason, remedy

console = Console(stderr=True)
log = logging.getLogger("blocknerf")
log.setLevel(logging.INFO)


class _LogFile(logging.FileHandler):
    """A file whose lines are lost where they cannot be written, without a traceback on the console for each."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        """Says nothing: what is wrong with the disk is said by what must be written there."""


def start_logging(log_file: Path | None = None, to_console: bool = True) -> None:
    """Sends the program's messages to the console and, when given, to `log_file` (appended); workers have no console.

    The level is the logger's own and stays as it was set: `log.setLevel(logging.DEBUG)` shows more.
    """
    for handler in list(log.handlers):
        log.removeHandler(handler)
        handler.close()
    log.propagate = False
    if to_console:
        log.addHandler(RichHandler(console=console, show_path=False, show_time=False, show_level=False, markup=False))
    if log_file is not None:
        try:
            disk.make_folder(log_file.parent)
            file_handler = disk.by_library(log_file, lambda: _LogFile(log_file, encoding="utf-8"))
        except OSError as error:
            raise UserError(f"Cannot write the log {log_file}: {reason(error)}; {remedy(error)}.") from error
        file_handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        log.addHandler(file_handler)
