"""One console, one logger; the log file stands in the output folder."""

import logging
from pathlib import Path

from rich.console import Console
from rich.logging import RichHandler

console = Console(stderr=True)
log = logging.getLogger("blocknerf")


def start_logging(log_file: Path | None = None, level: int = logging.INFO) -> None:
    """Sends the program's messages to the console and, when given, to `log_file` as well (appended)."""
    for handler in list(log.handlers):
        log.removeHandler(handler)
        handler.close()
    log.setLevel(level)
    log.propagate = False
    log.addHandler(RichHandler(console=console, show_path=False, show_time=False, show_level=False, markup=False))
    if log_file is not None:
        log_file.parent.mkdir(parents=True, exist_ok=True)
        file_handler = logging.FileHandler(log_file, encoding="utf-8")
        file_handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        log.addHandler(file_handler)
