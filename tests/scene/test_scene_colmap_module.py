"""pycolmap's zlib trap: one module imports it, after zlib and Pillow."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

import blocknerf

SOURCE = Path(blocknerf.__file__).parent

PROGRAM = """
from blocknerf.scene.colmap_module import pycolmap
import io, zlib
from PIL import Image
file = io.BytesIO()
Image.new("RGB", (64, 48), (1, 2, 3)).save(file, "PNG")
assert Image.open(io.BytesIO(file.getvalue())).getpixel((5, 5)) == (1, 2, 3)
assert zlib.decompress(zlib.compress(b"abc" * 10000)) == b"abc" * 10000
assert pycolmap.Camera(model="PINHOLE", width=2, height=2, params=[1, 1, 1, 1]).width == 2
print("whole")
"""


def test_png_and_zlib_work_after_pycolmap_in_a_fresh_interpreter():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "whole"), done.stderr


def test_nothing_else_imports_pycolmap():
    imports = [
        path.relative_to(SOURCE).as_posix()
        for path in SOURCE.rglob("*.py")
        for line in path.read_text().splitlines()
        if line.strip().startswith(("import pycolmap", "from pycolmap"))
    ]
    assert imports == ["scene/colmap_module.py"]


HANDLERS = """
def caught():
    with open("/proc/self/status") as status:
        return [line for line in status if line.startswith(("SigBlk", "SigIgn", "SigCgt"))]
import ctypes, faulthandler, os, signal, sys
signal.signal(signal.SIGTERM, signal.SIG_DFL)
"""


@pytest.mark.parametrize("with_faulthandler", [False, True])
def test_every_signal_keeps_its_handler(with_faulthandler):
    start = "faulthandler.enable()\n" if with_faulthandler else ""
    code = f"""{HANDLERS}
{start}
import numpy  # whose threads block signals of their own
before = caught()
from blocknerf.scene.colmap_module import pycolmap
pycolmap.Camera(model="OPENCV", width=8, height=8, params=[8, 8, 4, 4, 0, 0, 0, 0]).img_from_cam([[0, 0, 1]])
# the C library's own signals, 32 and 33, are not anybody's
kept = [(int(a.split()[1], 16) ^ int(b.split()[1], 16)) & ~(3 << 31) for a, b in zip(before, caught())]
assert kept == [0, 0, 0], (before, caught())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("end", "number"),
    [
        ("ctypes.string_at(0)", signal.SIGSEGV),
        ("os.abort()", signal.SIGABRT),
        ("os.kill(os.getpid(), signal.SIGTERM)", signal.SIGTERM),
    ],
)
def test_a_native_crash_ends_the_process_at_once(end, number):
    code = f"{HANDLERS}\nfrom blocknerf.scene.colmap_module import pycolmap\nprint('ready', flush=True)\n{end}"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"ready\n"
        assert process.wait(timeout=1) == -number
        assert process.stderr.read() == b""
