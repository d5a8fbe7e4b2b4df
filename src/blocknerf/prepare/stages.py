"""Stages of `prepare`: each writes one file, and is skipped while its inputs and those of all before are the same."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from blocknerf.core.logging import log
from blocknerf.core.stored import read_stored, write_stored

FOLDER = "prepare"
_VERSION = 2


class Stages:
    """Runs stages in order. The key of a stage is a hash of its inputs and of the key of the stage before it."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._key = f"version {_VERSION}"

    def run(self, name: str, inputs: Any, work: Callable[[bool], Any]) -> Any:
        """The result of `work` (JSON types), or the one in the stage's file if its inputs are unchanged.

        The argument of `work` is whether the same work was started before and interrupted; it can then resume.
        """
        text = json.dumps([self._key, name, inputs], sort_keys=True)
        self._key = hashlib.sha256(text.encode()).hexdigest()[:16]
        path = self.folder / f"{name}.json"
        before = read_stored(path, f"record of the stage {name}", "Remove it.") if path.is_file() else {}
        if not isinstance(before, dict) or before.get("key") != self._key:
            before = {}
        if "result" in before:
            log.info("%s: done before.", name.capitalize())
            return before["result"]
        write_stored(path, {"key": self._key})
        result = work(bool(before))
        write_stored(path, {"key": self._key, "result": result})
        return result
