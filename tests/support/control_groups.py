"""A system whose control groups are files in a folder, for tests."""

from collections.abc import Mapping
from pathlib import Path


def write_groups(system: Path, group: str, files: Mapping[str, str]) -> None:
    """`group` is the line of /proc/self/cgroup that tells it; `files` lie below /sys/fs/cgroup."""
    (system / "proc/self").mkdir(parents=True)
    (system / "proc/self/cgroup").write_text(f"1:name=systemd:/\n{group}\n")
    for name, text in files.items():
        path = system / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
