"""Runs a command and measures its time and memory."""

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Measured:
    """Wall-clock seconds, the largest resident memory of any of the command's processes in GB, and the seconds that
    all cores together worked for it."""

    seconds: float
    peak_gb: float
    processor_s: float


def run(command: list[str]) -> Measured:
    """Runs `command` with our output streams; stops the benchmark if it fails."""
    print("$", " ".join(command), flush=True)
    begin = time.perf_counter()
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = code = os.waitstatus_to_exitcode(status)  # Popen did not wait for it itself
    if code != 0:
        sys.exit(f"the command above ended with code {code}")
    seconds, processor_s = time.perf_counter() - begin, usage.ru_utime + usage.ru_stime
    return Measured(seconds, usage.ru_maxrss * 1024 / 1e9, processor_s)


def blocknerf(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "blocknerf", *map(str, arguments)]
