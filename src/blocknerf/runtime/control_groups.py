"""Limits of the control groups (containers) around this process: cores and memory (cgroups 1 and 2)."""

import re
from collections.abc import Iterator
from pathlib import Path


def core_quotas(system: Path = Path("/")) -> Iterator[float]:
    """Cores that each group around this process may use, from its quota of time."""
    for folder in _folders("cpu", system):
        quota = _read(folder / "cpu.max") or " ".join(
            _read(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")
        )
        if limit := re.fullmatch(r"([1-9][0-9]*) ([1-9][0-9]*)", quota.strip()):
            yield int(limit[1]) / int(limit[2])


def free_bytes(system: Path = Path("/")) -> Iterator[int]:
    """Memory that each group around this process can still give it. File caches that can be dropped count as free."""
    for folder in _folders("memory", system):
        limit = _number(folder / "memory.max") or _number(folder / "memory.limit_in_bytes")
        used = _number(folder / "memory.current") or _number(folder / "memory.usage_in_bytes")
        if limit is not None and used is not None:
            forgettable = re.search(r"^(?:total_)?inactive_file ([0-9]+)$", _read(folder / "memory.stat"), re.MULTILINE)
            yield max(0, limit - used + (int(forgettable[1]) if forgettable else 0))


def _folders(controller: str, system: Path) -> Iterator[Path]:
    """Folders of the groups around this process. A container may see its group at the root or at the machine's path."""
    for line in _read(system / "proc/self/cgroup").splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        root = system / "sys/fs/cgroup" / (controller if controllers else "")
        folder = root / group.lstrip("/")
        yield from {root, folder, *folder.parents} - {*root.parents}


def _number(path: Path) -> int | None:
    text = _read(path).strip()
    return int(text) if text.isdecimal() and len(text) < 20 else None


def _read(path: Path) -> str:
    """The content of a system file; empty if it does not exist or is not readable."""
    try:
        return path.read_text()
    except OSError:
        return ""
