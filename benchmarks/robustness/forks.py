"""Commands in children of one process that has imported everything. A command on a tiny scene then takes a tenth of a
second, not five, and may be killed at any call without harm to the parent.

The parent never computes, because pools of threads do not survive a fork.
"""

import errno
import faulthandler
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KILLED = 77
"""The exit code of a process that ended itself at a call."""
ERRORS = ("ENOSPC", "EIO", "EACCES", "EMFILE", "EROFS")
KILLS = ("kill before", "kill in the middle", "kill after")
LONGEST_S = 120.0
COMPILING_S = 900.0
"""Of the first run of a command, which may have to compile kernels."""
SHOW_STACKS = signal.SIGUSR1
"""A child that gets it says where its threads are."""
_LONGEST_PAUSE_S = 0.5
LATE = (
    *("skimage.measure", "trimesh", "rasterio", "OpenEXR", "matplotlib.pyplot", "scipy.spatial", "ray"),
    *("torchmetrics.image", "torch._dynamo", "numba.typed"),
)
"""What other libraries import when they are first used."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended, and what it said."""

    code: int
    text: str
    calls: int
    seconds: float

    @property
    def faults(self) -> list[str]:
        """What nobody should ever be shown."""
        found = ["traceback"] if "Traceback (most recent call last)" in self.text else []
        if self.code not in (0, 2, 130, KILLED, -signal.SIGKILL):
            found.append(f"exit code {self.code}")
        message = self.message
        return found + (["message over 500 characters"] if len(message) > 500 else [])

    @property
    def message(self) -> str:
        """The sentence of exit code 2."""
        return "".join(re.findall(r"^blocknerf: (.*)", self.text, re.MULTILINE)[-1:])

    @property
    def end(self) -> str:
        """The last that it said, without the blanks that fill a line of the console."""
        return re.sub(r" {2,}", " ", self.text)[-2500:]


@dataclass
class At:
    """The n-th call of core.disk fails with `kind`, or the process ends there; n counts from 1, 0: none does."""

    number: int = 0
    kind: str = "EIO"
    calls: int = 0

    def __call__(self, kind: str, path: str, do: Callable[[], Any], half: Callable[[], Any] | None) -> Any:
        self.calls += 1
        if self.calls != self.number:
            return do()
        if self.kind in ERRORS:
            if half is not None and self.kind in ("ENOSPC", "EIO"):
                half()
            number = getattr(errno, self.kind)
            raise OSError(number, os.strerror(number), path)
        if self.kind == KILLS[1]:
            (half or do)()
        if self.kind == KILLS[2]:
            do()
        os._exit(KILLED)


def load_everything() -> None:
    """What commands import late, and kernels that are compiled, so that children need not."""
    from importlib import import_module
    from pkgutil import walk_packages

    import blocknerf
    from blocknerf.kernels.jit.compiled import is_compiled
    from blocknerf.kernels.jit.precompile import kernel_of
    from blocknerf.models.backbones.hash_grid.config import HashConfig

    for module in walk_packages(blocknerf.__path__, "blocknerf."):
        others = module.name.startswith(("blocknerf.__main__", "blocknerf.integrations"))
        if not others and not module.name.endswith(".triton"):
            import_module(module.name)
    for name in LATE:
        try:
            import_module(name)
        except ImportError:
            continue
    for name in HashConfig.kernels:
        kernel = kernel_of(name)
        if is_compiled(kernel):
            kernel.compile(kernel.called_with)


def run(
    command: Callable[[], Any],
    output: Path,
    at: At | None = None,
    argv: Sequence[str] = (),
    longest_s: float = LONGEST_S,
) -> Outcome:
    """Runs `command` as the shell would in a child, with a fault at a call of the layer; waits for its end."""
    begin = time.monotonic()
    read_end, write_end = os.pipe()
    child = start(command, output, at or At(), argv, write_end)
    os.close(write_end)
    code = wait(child, longest_s)
    with os.fdopen(read_end, "rb") as pipe:
        count = pipe.read()
    calls = int(count or 0)
    return Outcome(code, output.read_text(errors="replace"), calls, time.monotonic() - begin)


def start(command: Callable[[], Any], output: Path, at: At, argv: Sequence[str], write_end: int | None = None) -> int:
    """The process id of the child."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.setpgid(0, 0)
        code = _in_child(command, output, at, argv)
    finally:
        if write_end is not None:
            os.write(write_end, str(at.calls).encode())
        os._exit(code)


def wait(child: int, longest_s: float) -> int:
    """Its exit code, negative for a signal; one that hangs is killed and counts as hung (-100).

    Time in which this process itself was stopped, as by SIGSTOP, does not count.
    """
    waited_s, before = 0.0, time.monotonic()
    while waited_s < longest_s:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
        now = time.monotonic()
        waited_s, before = waited_s + min(now - before, _LONGEST_PAUSE_S), now
    os.kill(child, SHOW_STACKS)
    time.sleep(1)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return -100


def _in_child(command: Callable[[], Any], output: Path, at: At, argv: Sequence[str]) -> int:
    import traceback

    from blocknerf.cli.main import as_program
    from blocknerf.core import disk
    from blocknerf.core.logging import console

    handle = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    faulthandler.register(SHOW_STACKS)
    console.width = 1000
    sys.argv = ["blocknerf", *argv]
    try:
        with disk.faults(at):
            as_program(command)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:  # noqa: BLE001 (shown as the interpreter would)
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return code
