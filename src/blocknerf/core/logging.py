"""One console and one logger; the log file is in the output folder."""

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
    """A file handler that drops lines it cannot write, without a traceback on the console."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        """Silent: other writes to the same disk report its problem."""


def start_logging(log_file: Path | None = None, to_console: bool = True) -> None:
    """Sends messages to the console and, if given, to `log_file` (appended); workers have no console.

    The logger's level does not change: `log.setLevel(logging.DEBUG)` shows more.
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
