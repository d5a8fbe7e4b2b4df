"""Runs a command and says what it took; names the machine and the commit a figure belongs to."""

import os
import platform
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Measured:
    """Wall-clock seconds and the largest resident memory of any of the command's processes, in GB."""

    seconds: float
    peak_gb: float


def run(command: list[str]) -> Measured:
    """Runs `command`, its output on ours; stops the benchmark where it fails."""
    print("$", " ".join(command), flush=True)
    begin = time.perf_counter()
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = code = os.waitstatus_to_exitcode(status)  # Popen did not wait for it itself
    if code != 0:
        sys.exit(f"the command above ended with code {code}")
    return Measured(time.perf_counter() - begin, usage.ru_maxrss * 1024 / 1e9)


def blocknerf(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "blocknerf", *map(str, arguments)]


def markdown(heads: list[str], rows: list[list[str]]) -> str:
    """A table; the first column holds text, the others numbers."""
    rule = [":--", *["--:"] * (len(heads) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, rule, *rows))


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    return next((line.split(":")[1].strip() for line in lines if "model name" in line), platform.processor())


def where() -> str:
    """Processor, cores and commit, as they stand beside a figure."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return f"{processor()}, {os.cpu_count()} cores, commit {commit.stdout.strip() or 'unknown'}"
